/**
 * The text of the error with which the edge ends an answer before its Content-Length. The platform offers no other way,
 * and logs it as an exception although nothing is wrong.
 */
export const EARLY_END = "virtual connection closed";
