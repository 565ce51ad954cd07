/**
 * Limits of the sessions of operators, each with its reason. Milliseconds unless the name says otherwise.
 *
 * @module
 */

/** How long a session lasts: a working day. */
export const SESSION_LIFE = 8 * 60 * 60_000;

/** Sessions at a time: more than an edge has operators with browsers. The oldest ends for a new one. */
export const SESSIONS = 64;

/**
 * How long a form can be sent after its page was made. The tokens of forms that were sent are remembered for as long, so
 * that each is taken once.
 */
export const FORM_LIFE = 60 * 60_000;

/** Forms of one session that were sent within that time: four a minute. Each is remembered with some 60 bytes. */
export const SENT_FORMS = 256;

/** Tries to sign in that one source has at once, and what it gets back in a second: five, then one each 12 s. */
export const SIGN_IN_TRIES = 5;
export const SIGN_IN_RATE = 1 / 12;

/**
 * Sources whose tries are counted, some 100 bytes each. When there are more, the oldest are forgotten: a flood from so
 * many networks finds out no token of 128 bits or more either.
 */
export const SIGN_IN_SOURCES = 4096;
