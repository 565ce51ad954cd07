/**
 * Files as a checked protocol, without any I/O.
 *
 * A transfer is one file from one sender to one recipient. It has an identifier of 128 random bits, and its messages go on
 * one resource, `file`, so that they come in order through one session:
 *
 *   whole    transfer, name, size, sha256, modified?, mode?, contents     a file of at most one part
 *
 *   begin    transfer, name, size or null, modified?, mode?               a longer file, or one of unknown size
 *   part     transfer, offset, contents                                   1 MiB each but the last
 *   end      transfer, size, sha256                                       what the sender has read, from its first byte on
 *
 *   cancel   transfer, reason                                             on resource `file-cancel`, at any time
 *
 * The sender says what it has read, not what it expected to read: a file that grows or shrinks meanwhile arrives as it was
 * read. Sizes and offsets are integers below 2^53.
 *
 * The recipient believes nobody. It writes the parts beside their destination, acknowledges each when it is on the disk,
 * and says "received" only when the file, read back, has the size and the hash of `end`. Parts may come in any order, more
 * than once, and with interruptions of any length in between; two transfers are the same when the identifier and the
 * sender are the same, so nobody can touch another's. What cannot go on is set aside with a reason (`SET_ASIDE`): its
 * messages are acknowledged, so that it blocks nothing behind it; its parts are kept, and it is completed when what is
 * missing comes after all. A cancelled one is removed.
 *
 *   message.ts      the codec
 *   sending.ts      the state of an outgoing transfer
 *   receiving.ts    the state of an incoming transfer
 *   journal.ts      how the state of an incoming transfer is written down
 *   file-name.ts    harmless names out of anybody's text
 *   limits.ts       every number
 *
 * @module
 */
export * from "./limits.ts";
export * from "./message.ts";
export * from "./receiving.ts";
export * from "./sending.ts";
