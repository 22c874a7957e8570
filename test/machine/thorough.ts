/** Whether tests try all that they can (`npm run thorough`), or their short form: where one stands for many of its kind. */
export const IS_THOROUGH = process.env['KILN_TEST_THOROUGH'] === 'yes';
