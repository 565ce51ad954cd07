/**
 * Content types of streams: which are JSON, which are text, and which are the same.
 *
 * @module
 */
import { CONTENT_TYPE_CHARACTERS } from "./limits.ts";

/** The type of a stream that was created without one [PROTOCOL 5.1]. */
export const DEFAULT_CONTENT_TYPE = "application/octet-stream";

/**
 * A media type, with parameters whose values are tokens or quoted texts, or that are empty [RFC 9110 8.3.1, 5.6.6]. Blanks
 * belong to one place each, or checking a long text would take time that doubles with each semicolon.
 */
const MEDIA_TYPE =
  /^[!#$%&'*+.^_`|~\w-]+\/[!#$%&'*+.^_`|~\w-]+(?:[ \t]*;(?:[ \t]*[!#$%&'*+.^_`|~\w-]+=(?:[!#$%&'*+.^_`|~\w-]+|"[\t !#-[\]-~]*"))?)*[ \t]*$/;

/** Whether a text is a content type that a stream may have. */
export function isContentType(text: string): boolean {
  return text.length <= CONTENT_TYPE_CHARACTERS && MEDIA_TYPE.test(text);
}

/** Whether two content types are of the same media type. Parameters, such as charset, do not count. */
export function isSameType(one: string, other: string): boolean {
  return mediaTypeOf(one) === mediaTypeOf(other);
}

/** Whether a stream of this type is a sequence of JSON values, of which an array is flattened [PROTOCOL 9.1]. */
export function isJson(contentType: string): boolean {
  return mediaTypeOf(contentType) === "application/json";
}

/** Whether server-sent events carry this type as it is. Any other is sent in base64 [PROTOCOL 5.8]. */
export function isText(contentType: string): boolean {
  return isJson(contentType) || mediaTypeOf(contentType).startsWith("text/");
}

function mediaTypeOf(contentType: string): string {
  return (contentType.split(";")[0] ?? "").trim().toLowerCase();
}
