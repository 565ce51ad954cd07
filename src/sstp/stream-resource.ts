/**
 * The resource whose sessions carry TCP streams between devices. SSTP leaves the names of resources to applications.
 *
 * @module
 */

/** Resource of the sessions that carry channels. */
export const STREAM_RESOURCE = "stream";

/** Whether a session carries channels. A token needs the scope `stream:` for it. */
export function isStreamResource(resourceURL: string): boolean {
  return resourceURL === STREAM_RESOURCE || resourceURL.startsWith(`${STREAM_RESOURCE}?`);
}
