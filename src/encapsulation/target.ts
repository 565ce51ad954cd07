/**
 * Request targets of LongLived and KeepAlive [MS-GRVHENC 2.2.2.1.1, 2.2.3.1.1] and of Grooveway's WebSocket, which uses
 * the grammar of KeepAlive; and the names in them.
 */

import { type HostPort, parseHostPort } from "../lib/host-port.ts";
import { bodyQuery, offeredBody } from "./body-size.ts";
import type { Encapsulation, Refusal } from "./registry.ts";
import {
  COUNTED_ID,
  EncapsulationError,
  GUID_LIMITS,
  KEEP_ALIVE_VERSION,
  LONG_LIVED_VERSION,
  MAX_CONTENT_LENGTH,
  REGISTRY,
  REQUEST_ID_LIMIT,
  refuse,
  TARGET_LIMIT,
} from "./registry.ts";

type Common = {
  readonly version: string;
  /** Relay-Server-Name in lower case: `host`, `host:port` or `[v6]:port`. */
  readonly relay: string;
  /** Virtual-Connection-GUID, an opaque token. */
  readonly guid: string;
  /** For logs only, since a server SHOULD ignore it [MS-GRVHENC 3.2.5.1.1]; but see {@link requestNumber}. */
  readonly requestId?: string;
  /** Scheme and authority of the absolute form used with a proxy: `http://server.domain.net`. */
  readonly origin?: string;
};

/** `contentLength` is ConnectionContentLength: octets that each session may carry, echo string included. */
export type LongLivedTarget = Common & { readonly encapsulation: "LongLived"; readonly contentLength: number };
/**
 * `bodyLimit` is what the client offers beyond 32768 octets (`body-size.ts`). `hold` is for how many seconds at most a
 * Grooveway server may hold the GET: some proxies end a request that is not answered sooner. Others ignore it.
 */
export type KeepAliveTarget = Common & {
  readonly encapsulation: "KeepAlive";
  readonly bodyLimit?: number;
  readonly hold?: number;
};
export type WebSocketTarget = Common & { readonly encapsulation: "WebSocket" };

/** A parsed request target. */
export type Target = LongLivedTarget | KeepAliveTarget | WebSocketTarget;

const TYPES: ReadonlyMap<string, Exclude<Encapsulation, "Polling">> = new Map([
  ["longlived", "LongLived"],
  ["keepalive", "KeepAlive"],
  ["websocket", "WebSocket"],
]);

const VERSION = /^\d{1,4}\.\d{1,4}$/;
const TOKEN = /^[A-Za-z0-9\-._~]+$/;
const ORIGIN = /^(https?):\/\/([^/]*)(\/.*)$/is;

/**
 * Parses a Relay-Server-Name: `host`, `host:port`, `[v6]` or `[v6]:port`. The host is returned in lower case, with
 * brackets. Undefined if invalid. A final dot is allowed: the name is only passed on, and judged where it is dialled.
 */
export function parseRelay(text: string): HostPort | undefined {
  const parsed = parseHostPort(text, { finalDot: true });
  return typeof parsed === "string" ? undefined : parsed;
}

/** Whether the text is a valid Virtual-Connection-GUID: 16 to 128 unreserved characters. */
export function isGuid(text: string): boolean {
  return text.length >= GUID_LIMITS.least && text.length <= GUID_LIMITS.most && TOKEN.test(text);
}

/**
 * Parses a relative or absolute request target, checking in the order of the specification: grammar (MalformedTarget),
 * version (WrongVersion), type (WrongEncapsulation) [MS-GRVHENC 3.2.5.1.1, 3.4.5.1.1]. The caller then checks whether
 * it serves the relay. Names are case-insensitive, percent-encoding is decoded, and a blank before `ID=` is accepted,
 * as in the specification's example. A query is ignored, except for the body size and hold time in it. All refusals have
 * scope "request".
 */
export function parseTarget(text: string): { readonly type: "target"; readonly target: Target } | Refusal {
  if (text.length > TARGET_LIMIT) return malformed(`it is longer than ${TARGET_LIMIT} characters`);
  const asked = text.indexOf("?");
  let path = asked < 0 ? text : text.slice(0, asked);
  const query = asked < 0 ? "" : text.slice(asked);
  const bodyLimit = offeredBody(query);
  const hold = holdOf(query);
  let origin: string | undefined;
  if (!path.startsWith("/")) {
    const parts = ORIGIN.exec(path);
    if (parts === null) return malformed("it begins neither with / nor with http:// or https://");
    const [, scheme = "", authority = "", rest = ""] = parts;
    if (parseRelay(authority) === undefined) return malformed("the host of the absolute form is not a host name");
    origin = `${scheme.toLowerCase()}://${authority.toLowerCase()}`;
    path = rest;
  }
  const segments = path.split("/");
  if (segments.length !== 4) return malformed("it does not have the form /{version}/{relay}/{guid},ConnType={type}");
  const decoded = segments.map(percentDecode);
  const [, version, relayText, last] = decoded;
  if (version === undefined || relayText === undefined || last === undefined) {
    return malformed("its percent-encoding is invalid");
  }
  if (!VERSION.test(version)) return malformed("its first segment is not a version such as 2.0");
  if (parseRelay(relayText) === undefined) return malformed("its second segment is not a relay server name");
  const [guid = "", typeField = "", ...fields] = last.split(",");
  if (!isGuid(guid)) {
    return malformed(`the GUID is not ${GUID_LIMITS.least} to ${GUID_LIMITS.most} unreserved characters`);
  }
  const typeName = fieldValue(typeField, "conntype");
  if (typeName === undefined) return malformed("ConnType does not follow the GUID");

  if (version !== LONG_LIVED_VERSION) return refuse("WrongVersion", "request", `The version is ${version}, not 2.0.`);
  const encapsulation = TYPES.get(typeName.toLowerCase());
  if (encapsulation === undefined) return refuse("WrongEncapsulation", "request");

  let contentLength = 0;
  if (encapsulation === "LongLived") {
    const digits = fieldValue(fields.shift() ?? "", "contentlength");
    if (digits === undefined) return malformed("ContentLength does not follow ConnType=LongLived");
    contentLength = Number(digits);
    if (!/^\d{1,10}$/.test(digits) || contentLength < 1 || contentLength > MAX_CONTENT_LENGTH) {
      return malformed(`ContentLength is not a number from 1 to ${MAX_CONTENT_LENGTH}`);
    }
  }
  let requestId: string | undefined;
  const idField = fields.shift();
  if (idField !== undefined) {
    requestId = fieldValue(idField.startsWith(" ") ? idField.slice(1) : idField, "id");
    if (requestId === undefined) return malformed("the last field is not ID=");
    if (requestId.length > REQUEST_ID_LIMIT || !TOKEN.test(requestId)) {
      return malformed(`ID is not 1 to ${REQUEST_ID_LIMIT} unreserved characters`);
    }
  }
  if (fields.length > 0) return malformed("there are fields after the last one known");

  const common: Common = {
    version,
    relay: relayText.toLowerCase(),
    guid,
    ...(requestId === undefined ? {} : { requestId }),
    ...(origin === undefined ? {} : { origin }),
  };
  switch (encapsulation) {
    case "LongLived":
      return { type: "target", target: { encapsulation, ...common, contentLength } };
    case "KeepAlive":
      return {
        type: "target",
        target: {
          encapsulation,
          ...common,
          ...(bodyLimit !== undefined && { bodyLimit }),
          ...(hold !== undefined && { hold }),
        },
      };
    case "WebSocket":
      return { type: "target", target: { encapsulation, ...common } };
  }
}

/** The ID of the n-th request of a session, as Grooveway clients count them. */
export function countedId(number: number): string {
  return `${COUNTED_ID.prefix}${number}`;
}

const COUNTED = new RegExp(`^${COUNTED_ID.prefix}([1-9]\\d{0,${COUNTED_ID.digits - 1}})$`);

/** The number of a request in its session, if the client counts them; undefined if the ID is to be ignored. */
export function requestNumber({ requestId }: { readonly requestId?: string }): number | undefined {
  const digits = requestId === undefined ? undefined : COUNTED.exec(requestId)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Parts of a target. The version follows from the encapsulation. */
export type TargetFields = {
  readonly encapsulation: Exclude<Encapsulation, "Polling">;
  readonly relay: string;
  readonly guid: string;
  /** LongLived only, 1 to 2147479552. */
  readonly contentLength?: number;
  readonly requestId?: string;
  /** KeepAlive only: octets of a body to offer, up to 1 MiB. */
  readonly bodyLimit?: number | undefined;
  /** KeepAlive only: seconds for which the server may hold a GET, 1 to 99. */
  readonly hold?: number | undefined;
  readonly origin?: string;
  /** Path of the server, such as `/groove`. */
  readonly prefix?: string;
};

/**
 * Formats a request target: absolute if `origin` is given, as required through a proxy [MS-GRVHENC 2.2.2.1.1,
 * 2.2.3.1.1], otherwise relative.
 *
 * @throws EncapsulationError if a part is not valid in a target
 */
export function formatTarget(fields: TargetFields): string {
  const { encapsulation, relay, guid, contentLength, requestId, bodyLimit, hold, origin = "", prefix = "" } = fields;
  if (parseRelay(relay) === undefined) {
    throw new EncapsulationError(`relay ${JSON.stringify(relay)} must be host, host:port or [v6]:port`);
  }
  if (!isGuid(guid))
    throw new EncapsulationError("guid must be 16 to 128 unreserved characters; make it by guidFrom()");
  const version = encapsulation === "LongLived" ? LONG_LIVED_VERSION : KEEP_ALIVE_VERSION;
  let text = `${origin}${prefix}/${version}/${relay}/${guid},ConnType=${encapsulation}`;
  if (encapsulation === "LongLived") {
    if (!Number.isInteger(contentLength) || Number(contentLength) < 1 || Number(contentLength) > MAX_CONTENT_LENGTH) {
      throw new EncapsulationError(`contentLength must be a whole number from 1 to ${MAX_CONTENT_LENGTH}`);
    }
    text += `,ContentLength=${contentLength}`;
  }
  if (requestId !== undefined) {
    if (requestId.length > REQUEST_ID_LIMIT || !TOKEN.test(requestId)) {
      throw new EncapsulationError(`requestId must be 1 to ${REQUEST_ID_LIMIT} unreserved characters`);
    }
    text += `,ID=${requestId}`;
  }
  if (hold !== undefined && !(Number.isInteger(hold) && hold >= 1 && hold <= 99)) {
    throw new EncapsulationError("hold must be a whole number of seconds from 1 to 99");
  }
  const query = bodyQuery(bodyLimit);
  return `${text}${query}${hold === undefined ? "" : `${query === "" ? "?" : "&"}Hold=${hold}`}`;
}

/** The hold time that a query asks for: `?Hold=5`, or behind a body size. */
function holdOf(query: string): number | undefined {
  const digits = /[?&]Hold=([1-9]\d?)$/i.exec(query)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/**
 * Makes a Virtual-Connection-GUID or request ID: 39 characters of the examples' 32-letter alphabet [MS-GRVHENC
 * 2.2.1.1.1], from at least 24 random octets.
 *
 * @throws EncapsulationError if there are fewer octets
 */
export function guidFrom(random: Uint8Array): string {
  if (random.length < 24)
    throw new EncapsulationError(`guidFrom needs at least 24 random octets, not ${random.length}`);
  const alphabet = REGISTRY.guidAlphabet.value;
  let text = "";
  let bits = 0;
  let held = 0;
  let next = 0;
  while (text.length < REGISTRY.guidLength.value) {
    if (held < 5) {
      // 39 letters hold 195 bits; 24 octets are three bits short, which are 0.
      bits = ((bits << 8) | (random[next++] ?? 0)) & 0xfff;
      held += 8;
    }
    held -= 5;
    text += alphabet[(bits >> held) & 31];
  }
  return text;
}

function malformed(detail: string): Refusal {
  return refuse("MalformedTarget", "request", `The request target is refused: ${detail}.`);
}

function fieldValue(field: string, key: string): string | undefined {
  const equals = field.indexOf("=");
  return equals >= 0 && field.slice(0, equals).toLowerCase() === key ? field.slice(equals + 1) : undefined;
}

function percentDecode(text: string): string | undefined {
  let broken = false;
  const decoded = text.replace(/%([0-9A-Fa-f]{2})?/g, (_, hex: string | undefined) => {
    // The grammar allows only US-ASCII.
    if (hex === undefined || hex > "7F") broken = true;
    return hex === undefined ? "" : String.fromCharCode(Number.parseInt(hex, 16));
  });
  return broken ? undefined : decoded;
}
