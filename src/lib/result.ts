/**
 * What may fail because of its input is answered by a result. Exceptions are for faults.
 *
 * @module
 */

/** The outcome of reading input: its value, or what is wrong with it. */
export type Result<T, P> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problems: P };
