/**
 * HTTP requests and answers as messages, pure: what waits in an inbox for its owner, and what one device asks of
 * another. Edge, device and command share their form.
 *
 * @module
 */
export {
  ANSWER_RESOURCE,
  type Call,
  decodeCall,
  decodeReply,
  encodeCall,
  encodeReply,
  isCallable,
  requestResource,
  serviceOf,
} from "./calls.ts";
export { forwardedHeaders } from "./forwarded-headers.ts";
export { parseServer, type ServerAddress, targetBelow } from "./forwarded-target.ts";
export { type Header, headerIn, isHeaderValue, isToken } from "./head.ts";
export {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type HttpAnswer,
  type HttpRequest,
  isTarget,
  targetText,
} from "./http-message.ts";
export { HEAD_OCTETS, LONGEST_DEADLINE } from "./limits.ts";

/** Resource of the messages of inboxes. */
export const INBOX_RESOURCE = "webhook";
