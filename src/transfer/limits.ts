/**
 * All limits of file transfer, with reasons. In bytes unless stated otherwise.
 *
 * @module
 */

/** One part: small enough to start quickly and resend little, large enough to make header and sync negligible. */
export const PART_BYTES = 1024 * 1024;

/** Room before contents for their header: that of a part, or of a file with a usual name. */
export const HEADROOM = 256;

/** The longest header: room for a path of 4096 bytes, even if JSON escapes nearly all of them to two bytes each. */
export const HEADER_BYTES = 8 * 1024;

/** The longest name accepted, in UTF-16 units: PATH_MAX on Linux. */
export const NAME_LENGTH = 4096;

/** The longest name of a file or folder, in UTF-8: NAME_MAX of common file systems. */
export const COMPONENT_BYTES = 255;

/** Folders in one name. No source tree is deeper, and each folder costs an open descriptor while in use. */
export const FOLDER_DEPTH = 64;

/** The longest suffix kept when a name is cut or numbered. A longer one is not a suffix but text with a dot. */
export const SUFFIX_BYTES = 32;

/**
 * Gaps in the received part of a file. In-order delivery makes none, and each part in flight at most one: only a
 * misbehaving sender exceeds this.
 */
export const GAPS = 4096;

/** Range of a JavaScript Date, in milliseconds from 1970. */
export const TIME_RANGE = 8.64e15;

/** Finished transfers remembered, so that a lost acknowledgement makes no duplicate. No relay resends as many. */
export const FINISHED_TRANSFERS = 10_000;

/** How long they are remembered, in milliseconds: as long as an edge keeps a message. */
export const FINISHED_TIME = 14 * 24 * 3600_000;

/** Unfinished transfers per sender. An honest sender has a few at a time; more would fill the disk with beginnings. */
export const UNFINISHED_OF_SENDER = 1000;

/** Unfinished transfers with open files, far below the usual limit of 1024 open files per process. */
export const OPEN_TRANSFERS = 64;

/**
 * Single-message files written at a time. Each has one sync of its own and shares three with the others. At 16 sharing
 * saves little (half the rate of plain files), at 64 nearly everything; more gains nothing.
 */
export const WHOLE_AT_ONCE = 64;

/** Size at which a log of the index is rewritten: several times what is remembered. */
export const INDEX_BYTES = 8 * 1024 * 1024;
