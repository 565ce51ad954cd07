/**
 * The resources whose sessions carry TCP streams: between devices, and from a device to the edge itself, which dials
 * origins. SSTP leaves the names of resources to applications.
 *
 * @module
 */

/** Resource of the sessions that carry channels. */
export const STREAM_RESOURCE = "stream";

/**
 * Resource of the sessions between a device and its edge that carry a channel to origins. They are addressed to the
 * device itself in both directions.
 */
export const ORIGIN_RESOURCE = `${STREAM_RESOURCE}?origin`;

/** Whether a session carries channels. A token needs the scope `stream:` for it. */
export function isStreamResource(resourceURL: string): boolean {
  return resourceURL === STREAM_RESOURCE || resourceURL.startsWith(`${STREAM_RESOURCE}?`);
}

/** Whether a session carries a channel to origins. A token needs the scope `origin:` for it. */
export function isOriginResource(resourceURL: string): boolean {
  return resourceURL === ORIGIN_RESOURCE;
}
