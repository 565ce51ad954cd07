/**
 * Requests of one device to a service of another, and their answers. Each is one message:
 *
 *   caller ── on resource request/NAME: id, deadline, request ─► device that serves NAME
 *   caller ◄─ on resource answer: id, answer ── that device
 *
 * The deadline is a time by the caller's clock: after it nothing is run, and no answer counts.
 *
 * @module
 */
import type { Result } from "../lib/result.ts";
import { type Header, headerIn } from "./head.ts";
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type HttpAnswer,
  type HttpRequest,
} from "./http-message.ts";

/** Resource of answers. */
export const ANSWER_RESOURCE = "answer";

const REQUEST_PREFIX = "request/";

/** Headers of ours. Those of a request or answer with these names are not sent. */
const ID = "grooveway-id";
const DEADLINE = "grooveway-deadline";
const OWN = /^grooveway-/i;

/** A request on its way. */
export interface Call {
  /** Made by the caller; the same however often the request comes. */
  readonly id: string;
  /** In milliseconds since 1970. */
  readonly deadline: number;
  readonly request: HttpRequest;
}

/** Whether a text can name a service. */
export function isCallable(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name);
}

/** The resource of requests to a service. */
export function requestResource(service: string): string {
  return REQUEST_PREFIX + service;
}

/** The service that a resource is for; undefined if it has no requests. */
export function serviceOf(resource: string): string | undefined {
  if (!resource.startsWith(REQUEST_PREFIX)) return undefined;
  const name = resource.slice(REQUEST_PREFIX.length);
  return isCallable(name) ? name : undefined;
}

/** @throws RangeError if a part cannot be written */
export function encodeCall({ id, deadline, request }: Call): Uint8Array<ArrayBuffer> {
  const own: Header[] = [
    [ID, id],
    [DEADLINE, String(Math.ceil(deadline))],
  ];
  return encodeRequest({ ...request, headers: [...own, ...othersIn(request.headers)] });
}

export function decodeCall(octets: Uint8Array): Result<Call, string> {
  const read = decodeRequest(octets);
  if (!read.ok) return read;
  const { headers } = read.value;
  const id = headerIn(headers, ID) ?? "";
  const deadline = headerIn(headers, DEADLINE) ?? "";
  if (!isId(id) || !/^[0-9]{1,15}$/.test(deadline)) return { ok: false, problems: "it has no id or no deadline" };
  const request = { ...read.value, headers: othersIn(headers) };
  return { ok: true, value: { id, deadline: Number(deadline), request } };
}

/** @throws RangeError if a part cannot be written */
export function encodeReply(id: string, answer: HttpAnswer): Uint8Array<ArrayBuffer> {
  return encodeAnswer({ ...answer, headers: [[ID, id], ...othersIn(answer.headers)] });
}

export function decodeReply(octets: Uint8Array): Result<{ readonly id: string; readonly answer: HttpAnswer }, string> {
  const read = decodeAnswer(octets);
  if (!read.ok) return read;
  const { headers } = read.value;
  const id = headerIn(headers, ID) ?? "";
  if (!isId(id)) return { ok: false, problems: "it has no id" };
  return { ok: true, value: { id, answer: { ...read.value, headers: othersIn(headers) } } };
}

/** 16 to 64 characters of base64url: enough that nobody guesses one. */
function isId(text: string): boolean {
  return /^[A-Za-z0-9_-]{16,64}$/.test(text);
}

function othersIn(headers: readonly Header[]): Header[] {
  return headers.filter(([name]) => !OWN.test(name));
}
