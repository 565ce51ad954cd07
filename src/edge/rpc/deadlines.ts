/**
 * How the 5 s are divided in which a message that cannot wait is answered, over the objects that have a part in it.
 *
 * @module
 */

/**
 * A message that cannot wait (flag D) is answered within 5 s, since what its device sends behind it is acknowledged behind
 * it. A link has so long to be there, by all its ways together; a device so long to take it; and a mailbox to say.
 */
export const REACH_TIMEOUT = 4000;
export const HAND_TIMEOUT = 4000;
export const VOLATILE_TIMEOUT = 4500;
