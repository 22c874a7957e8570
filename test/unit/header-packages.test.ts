import { expect, it } from '@jest/globals';
import { headerPackage } from '../../services/core/kernel/header-packages.ts';

it.each([
  ['debian', '6.1.0-56-amd64', 'linux-headers-6.1.0-56-amd64'],
  ['linuxmint ubuntu debian', '6.8.0-45-generic', 'linux-headers-6.8.0-45-generic'],
  ['rocky rhel centos fedora', '5.14.0-1.el9.x86_64', 'kernel-devel-5.14.0-1.el9.x86_64'],
  ['opensuse-leap suse opensuse', '6.4.0-150600.23-default', 'kernel-default-devel'],
  ['arch', '6.9.1-arch1-1', null],
  ['', '6.1.0-56-amd64', null],
])('on %s the headers of %s are in %s', (distribution, release, name) => {
  expect(headerPackage(release, distribution)).toBe(name);
});
