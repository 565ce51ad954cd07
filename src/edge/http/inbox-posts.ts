/**
 * Requests to inboxes: `/in/{capability}`, with any path and query behind it. The answer comes when the request is in
 * the mailbox of the inbox's owner.
 *
 *   capability ─► MAC (no object is called for what this edge has not issued) ─► gate ─► Inboxes: may it come?
 *   ─► body ─► Inboxes: signature, mailbox ─► 202, or what the owner has chosen
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { encodeRequest, type Header } from "../../requests/index.ts";
import { gate } from "../admission/source-gate.ts";
import type { Env } from "../env.ts";
import { readCapability } from "../inboxes/capability.ts";
import { sourceOf } from "../policy/client-network.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { answerHeaders, problem } from "../problem.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import type { InboxOpened, InboxPosted, InboxRefusal } from "../rpc/inboxes-rpc.ts";
import { edgeKey } from "./edge-key.ts";
import { BUSY_RETRY, INBOX_CALL_TIMEOUT } from "./limits.ts";
import { withBody } from "./whole-body.ts";

const METHODS = ["POST", "PUT", "PATCH", "DELETE"];

/** Answers a request to an inbox. */
export async function answerPost(request: Request, env: Env, context: Context): Promise<Response> {
  if (!METHODS.includes(request.method)) {
    return problem("MethodNotImplemented", `An inbox takes ${METHODS.join(", ")}.`);
  }
  // Not Hono's path, which is partly decoded.
  const { pathname, search, href } = new URL(request.url);
  const [, text = "", path = "/"] = /^\/in\/([^/]*)(\/.*)?$/s.exec(pathUnder(prefixOf(env), pathname) ?? "") ?? [];
  const key = await edgeKey(env);
  const issued = key === undefined ? undefined : await readCapability(key, text);
  if (issued === undefined) return problem("UnknownInbox");
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  const turned = await gate.look(source);
  if (turned !== undefined) return problem(turned.reason, undefined, turned.retryAfter);
  const { locator, hash } = issued;
  const opened = await inTime<InboxOpened>(async () => env.INBOXES.getByName(locator).open(hash));
  const isUnknown = opened.type === "refused" && opened.reason === "UnknownInbox";
  if (!isUnknown) gate.found(source);
  if (opened.type === "refused") return refusal(opened);
  const query = search === "" && !href.endsWith("?") ? undefined : search.slice(1);
  // Who posts shows no token, and has the whole URL: the inbox is the sender. A peer may have many of them.
  const wanted = {
    request,
    context,
    sender: `inbox:${hash}`,
    group: `inboxes:${locator}`,
    limit: opened.largest,
    tooLong: "RequestTooLong",
  } as const;
  return withBody(wanted, async (body) => {
    let message: Uint8Array;
    try {
      message = encodeRequest({ method: request.method, path, query, headers: headersOf(request), body });
    } catch (error) {
      if (error instanceof RangeError) return problem("HeadTooLong", `The request cannot be kept: ${error.message}.`);
      throw error;
    }
    return answerOf(await inTime<InboxPosted>(async () => env.INBOXES.getByName(locator).post(hash, message)));
  });
}

/** What an object answers; if it does not in time, that the request may come again. */
async function inTime<T>(call: () => Promise<T>): Promise<T | InboxRefusal> {
  const answered = await within(INBOX_CALL_TIMEOUT, call());
  return answered === undefined ? BUSY : answered.value;
}

const BUSY: InboxRefusal = { type: "refused", reason: "InboxBusy", detail: "", retryAfter: BUSY_RETRY };

/** Headers as they came, one octet to a character. The platform decodes them as UTF-8. */
function headersOf(request: Request): Header[] {
  return [...request.headers].map(([name, value]) => [name, octetText(value)] as const);
}

/** The octets of a text in UTF-8, as characters. */
function octetText(text: string): string {
  if (!/[^\0-\x7f]/.test(text)) return text;
  return Array.from(new TextEncoder().encode(text), (octet) => String.fromCharCode(octet)).join("");
}

function answerOf(posted: InboxPosted): Response {
  switch (posted.type) {
    case "refused":
      return refusal(posted);
    case "challenge":
      return answer(200, "text/plain", posted.challenge);
    case "stored": {
      const { status, type, body } = posted.answer ?? { status: 202, type: "text/plain", body: "" };
      return answer(status, type, body);
    }
  }
}

/** What others wrote must not run where a person opens it. */
function answer(status: number, type: string, body: string): Response {
  return new Response(body === "" ? null : body, {
    status,
    headers: {
      ...answerHeaders(),
      "Content-Type": `${type}; charset=utf-8`,
      "Content-Security-Policy": "sandbox; default-src 'none'",
      "X-Content-Type-Options": "nosniff",
    },
  });
}

function refusal({ reason, detail, retryAfter }: InboxRefusal): Response {
  return problem(reason, detail, retryAfter);
}
