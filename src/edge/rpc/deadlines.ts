/**
 * Deadlines of a message that cannot wait, divided among the objects on its way.
 *
 * @module
 */

/**
 * A message that cannot wait (flag D) is answered within 5 s, because its device's later messages are acknowledged only
 * after it. In milliseconds: REACH_TIMEOUT to connect a Link, over all its ways together; HAND_TIMEOUT for a device to
 * take the message; VOLATILE_TIMEOUT for the mailbox to answer.
 */
export const REACH_TIMEOUT = 4000;
export const HAND_TIMEOUT = 4000;
export const VOLATILE_TIMEOUT = 4500;

/**
 * How long after a batch the object at the other end of a WebSocket is asked for a sign of life, and how long it has to
 * answer: several round trips between continents. What was lost is sent again within 4 s, when its channel asks for the
 * second time at the latest.
 */
export const SIGN_TIMEOUT = 1000;
