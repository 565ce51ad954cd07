/**
 * Every number of file transfers, with its reason. Bytes unless the name says otherwise.
 *
 * @module
 */

/** One part: small enough to begin at once and to repeat little, large enough that its header and its sync cost nothing. */
export const PART_BYTES = 1024 * 1024;

/** The longest header: a path of 4096 bytes, each of which JSON may escape, fits with little else beside it. */
export const HEADER_BYTES = 8 * 1024;

/** The longest name that is read: PATH_MAX of Linux. In UTF-16 units. */
export const NAME_LENGTH = 4096;

/** The longest name of one file or folder, in UTF-8: NAME_MAX of the usual file systems. */
export const COMPONENT_BYTES = 255;

/** Folders in one name: deeper ones are found in no source tree, and each costs an open folder while it is used. */
export const FOLDER_DEPTH = 64;

/** The longest suffix that is kept when a name is cut or numbered: longer ones are no suffixes but text with a dot. */
export const SUFFIX_BYTES = 32;

/** Gaps in what has arrived of one file. In order there is none, and each part on its way makes one at most: a sender who makes more lies. */
export const GAPS = 4096;

/** Time stamps that a JavaScript Date can hold, in milliseconds from 1970. */
export const TIME_RANGE = 8.64e15;

/** Finished transfers that are remembered, so that one whose acknowledgement was lost does not come twice: far more than any relay sends again. */
export const FINISHED_TRANSFERS = 10_000;

/** How long they are remembered at most, in milliseconds: as long as an edge keeps a message. */
export const FINISHED_TIME = 14 * 24 * 3600_000;

/** Unfinished transfers of one sender. It sends a few at a time; more are of one who fills the disk with beginnings. */
export const UNFINISHED_OF_SENDER = 1000;

/** Unfinished transfers whose files are open at a time, far below the 1024 open files that systems allow a process. */
export const OPEN_TRANSFERS = 64;

/**
 * Files in one message that are written at a time. Each has a sync of its own and shares three with the others: with 16 at a
 * time sharing saves little (half the rate of plain files), with 64 nearly all; more gain nothing.
 */
export const WHOLE_AT_ONCE = 64;

/** Size of a log of the index at which it is written anew: several times what is remembered. */
export const INDEX_BYTES = 8 * 1024 * 1024;
