/**
 * The option --plain of the commands that carry streams.
 *
 * @module
 */

export const PLAIN_OPTION = { plain: { type: "boolean", default: false } } as const;

export const PLAIN_HELP = `  --plain               do not seal what connections between devices carry: the edge can read and change it. Both devices
                        must say so`;

/** Said at each start. */
export const PLAIN_NOTICE = "--plain: the edge can read and change what connections between devices carry";
