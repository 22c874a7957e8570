/**
 * Shell and Perl that give a built module the tables of CONFIG_EXTENDED_MODVERSIONS (`scripts/mod/modpost.c`, Linux 6.14) instead of the
 * basic one: `sh extend.sh MODULE.ko`. Each symbol of the basic table gets its CRC and its name in the two new ones.
 */
export const EXTEND_VERSIONS = String.raw`set -eu
# Its debug information refers to the table that goes.
objcopy --strip-debug "$1"
objcopy -O binary --only-section=__versions --set-section-flags __versions=alloc,contents "$1" versions.bin
perl -e '
  binmode STDIN;
  open my $crcs, ">:raw", "crcs.bin";
  open my $names, ">:raw", "names.bin";
  while (read STDIN, my $entry, 64) {
    my ($crc, undef, $name) = unpack "VVZ56", $entry;
    print $crcs pack("V", $crc);
    print $names "$name\0";
  }' <versions.bin
objcopy --remove-section=__versions \
  --add-section __version_ext_crcs=crcs.bin --set-section-flags __version_ext_crcs=alloc,readonly,data \
  --add-section __version_ext_names=names.bin --set-section-flags __version_ext_names=alloc,readonly,data "$1"
`;
