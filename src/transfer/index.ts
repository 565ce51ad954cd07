/**
 * File transfer as a verified protocol, without I/O.
 *
 * A transfer is one file from one sender to one recipient. It is identified by 128 random bits. Its messages use one
 * resource, `file`, so that they arrive in order through one session:
 *
 *   whole    transfer, name, size, sha256, modified?, mode?, contents     a file of at most one part
 *
 *   begin    transfer, name, size or null, modified?, mode?               a longer file, or one of unknown size
 *   part     transfer, offset, contents                                   1 MiB each but the last
 *   end      transfer, size, sha256                                       what the sender has read, from its first byte
 *
 *   cancel   transfer, reason                                             on resource `file-cancel`, at any time
 *
 * The sender reports what it has read, not what it expected to read: a file that grows or shrinks meanwhile arrives as
 * read. Sizes and offsets are integers below 2^53.
 *
 * The recipient trusts nothing. It writes the parts beside their destination, acknowledges each when it is on disk, and
 * reports a file as received only when, read back, it has the size and hash of `end`. Parts may arrive in any order,
 * repeatedly, and with interruptions of any length. A transfer is identified by its identifier and its sender together,
 * so no sender can touch another's. A transfer that cannot continue is set aside with a reason (`SET_ASIDE`): its
 * messages are acknowledged, so that it blocks nothing behind it; its parts are kept, and it is completed if the
 * missing ones arrive after all. A cancelled transfer is removed.
 *
 *   message.ts      the codec
 *   sending.ts      the state of an outgoing transfer
 *   receiving.ts    the state of an incoming transfer
 *   journal.ts      how the state of an incoming transfer is recorded
 *   file-name.ts    sanitizes file names
 *   limits.ts       every number
 *
 * @module
 */
export * from "./limits.ts";
export * from "./message.ts";
export * from "./receiving.ts";
export * from "./sending.ts";
