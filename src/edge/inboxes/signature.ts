/**
 * Signatures of webhooks, checked over the bytes as they came [RFC 2104]. Nothing here reads a body before its signature
 * has been checked.
 *
 *   github     X-Hub-Signature-256, over the body
 *   stripe     Stripe-Signature, over time and body
 *   slack      X-Slack-Signature, over version, time and body
 *   standard   webhook-signature of Standard Webhooks, over id, time and body
 *   hmac       a header of any name, over the body
 *   none       no signature: anybody with the URL may post
 *
 * A request is the same as an earlier one if the same was signed, whichever of two secrets was used. Where no time is
 * signed, the id of the delivery must be the same too; it is not signed, so who has seen a request can send it again
 * with another one.
 *
 * @module
 */
import { isEqualOctets, joinOctets } from "../../lib/octets.ts";
import type { Result } from "../../lib/result.ts";
import { quoted } from "../../lib/setting.ts";
import { type Header, headerIn, isToken } from "../../requests/index.ts";
import { CHALLENGE_OCTETS, SIGNED_TIME, UNTIMED_MEMORY } from "./limits.ts";

const ALGORITHMS = { sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" } as const;

type Algorithm = keyof typeof ALGORITHMS;

/** What is asked of the requests of an inbox. */
export type Verification =
  | { readonly kind: "github" | "stripe" | "slack" | "standard" }
  | { readonly kind: "none" }
  | {
      readonly kind: "hmac";
      readonly header: string;
      readonly algorithm: Algorithm;
      readonly encoding: "hex" | "base64";
      /** Stands before the signature in the header. */
      readonly prefix: string;
      /** The header with the id of the delivery. */
      readonly delivery: string | undefined;
    };

/** Identifies what was signed. */
export interface Mark {
  /** 32 hexadecimal digits. */
  readonly text: string;
  /** Until when the same request is not stored again, in milliseconds since 1970. */
  readonly until: number;
}

export type SignatureProblem = "SignatureMissing" | "SignatureWrong" | "SignatureNotCurrent";

/** Whether a request may be stored. Without a signature there is no mark. */
export type Judgement =
  | { readonly ok: true; readonly mark: Mark | undefined }
  | { readonly ok: false; readonly reason: SignatureProblem; readonly detail: string };

/** The signed part of a request. */
export interface Signed {
  /** Names in lower case. */
  readonly headers: readonly Header[];
  readonly body: Uint8Array;
}

const KINDS = ["github", "stripe", "slack", "standard", "none"] as const;

/** Reads a verification: one of the names above, or `hmac:HEADER,ALGORITHM,hex|base64[,PREFIX[,DELIVERY-HEADER]]`. */
export function parseVerification(text: string): Result<Verification, string> {
  const kind = KINDS.find((known) => known === text);
  if (kind !== undefined) return { ok: true, value: { kind } };
  if (!text.startsWith("hmac:")) {
    return wrong(`${quoted(text)} is unknown: write ${KINDS.join(", ")} or hmac:HEADER,ALGORITHM,hex|base64,PREFIX`);
  }
  const [header = "", name = "", encoding, prefix = "", delivery = "", ...more] = text.slice("hmac:".length).split(",");
  const algorithm = (Object.keys(ALGORITHMS) as Algorithm[]).find((known) => known === name);
  if (!isToken(header)) return wrong("the header after hmac: is not a header: write its name, such as X-Signature");
  if (algorithm === undefined) return wrong(`the algorithm is none of ${Object.keys(ALGORITHMS).join(", ")}`);
  if (encoding !== "hex" && encoding !== "base64") return wrong("the encoding is neither hex nor base64");
  if (!/^[!-~]{0,32}$/.test(prefix)) return wrong("the prefix has more than 32 characters, or a blank");
  if (more.length > 0 || (delivery !== "" && !isToken(delivery))) {
    return wrong("what follows the prefix is not the name of a header: write that of the delivery's id, or nothing");
  }
  const value = {
    kind: "hmac",
    header: header.toLowerCase(),
    algorithm,
    encoding,
    prefix,
    delivery: delivery === "" ? undefined : delivery.toLowerCase(),
  } as const;
  return { ok: true, value };
}

/** The text of a verification, which parses to the same one. */
export function formatVerification(verification: Verification): string {
  if (verification.kind !== "hmac") return verification.kind;
  const { header, algorithm, encoding, prefix, delivery } = verification;
  return `hmac:${[header, algorithm, encoding, prefix, ...(delivery === undefined ? [] : [delivery])].join(",")}`;
}

/** Why a text cannot be the secret of a verification; undefined if it can. */
export function secretProblem({ kind }: Verification, secret: string): string | undefined {
  if (kind === "none") return "an inbox without verification has no secret: leave it out";
  if (kind !== "standard" || decodeBase64(standardKey(secret)) !== undefined) return undefined;
  return "the secret is not whsec_ and base64, as Standard Webhooks has it: copy it from the provider's page";
}

/**
 * Judges a request.
 *
 * @param secrets any of them may have signed it: there are two while one replaces the other
 * @param now milliseconds since 1970
 */
export async function judge(
  verification: Verification,
  secrets: readonly string[],
  signed: Signed,
  now: number,
): Promise<Judgement> {
  if (verification.kind === "none") return { ok: true, mark: undefined };
  const claim = claimIn(verification, signed.headers);
  if (!("signatures" in claim)) return { ok: false, ...claim };
  const { time } = claim;
  if (time !== undefined && Math.abs(time * 1000 - now) > SIGNED_TIME) {
    const detail = `The signed time is ${Math.round(Math.abs(time * 1000 - now) / 1000)} s from the edge's clock.`;
    return { ok: false, reason: "SignatureNotCurrent", detail };
  }
  const content = contentOf(claim.before, signed.body);
  const hash = verification.kind === "hmac" ? ALGORITHMS[verification.algorithm] : "SHA-256";
  let isRight = false;
  // All are compared, so that the time tells nothing of which one was right.
  for (const secret of secrets) {
    const expected = await hmac(hash, keyOf(verification, secret), content);
    for (const signature of claim.signatures) if (isEqualOctets(signature, expected)) isRight = true;
  }
  if (!isRight) return { ok: false, reason: "SignatureWrong", detail: "" };
  const until = time === undefined ? now + UNTIMED_MEMORY : time * 1000 + SIGNED_TIME;
  return { ok: true, mark: { text: await markOf(content, claim.delivery), until } };
}

/** The challenge that Slack sends when the URL of an app is set; undefined if a body is no such request. */
export function slackChallenge({ kind }: Verification, body: Uint8Array): string | undefined {
  if (kind !== "slack" || body.length > CHALLENGE_OCTETS) return undefined;
  try {
    const { type, challenge } = JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;
    return type === "url_verification" && typeof challenge === "string" ? challenge : undefined;
  } catch {
    // Most of what Slack sends is a form.
    return undefined;
  }
}

/** What the headers of a request claim. */
interface Claim {
  readonly signatures: readonly Uint8Array[];
  /** What is signed before the body. */
  readonly before: string;
  /** The signed time, in seconds since 1970. */
  readonly time: number | undefined;
  readonly delivery: string;
}

type NoClaim = { readonly reason: SignatureProblem; readonly detail: string };

/** More than any provider sends while it rotates its secrets. */
const MOST_SIGNATURES = 8;

function claimIn(verification: Exclude<Verification, { kind: "none" }>, headers: readonly Header[]): Claim | NoClaim {
  const find = (name: string) => headerIn(headers, name);
  switch (verification.kind) {
    case "github": {
      const texts = signaturesIn(find("x-hub-signature-256"), "sha256=");
      return claimOf("X-Hub-Signature-256", texts.map(decodeHex), { delivery: find("x-github-delivery") });
    }
    case "stripe": {
      const parts = (find("stripe-signature") ?? "").split(",").map((part) => part.trim());
      const time = parts.find((part) => part.startsWith("t="))?.slice(2);
      const texts = parts.filter((part) => part.startsWith("v1=")).map((part) => part.slice(3));
      return timedClaim("Stripe-Signature", texts.map(decodeHex), time, `${time}.`);
    }
    case "slack": {
      const time = find("x-slack-request-timestamp");
      const texts = signaturesIn(find("x-slack-signature"), "v0=");
      return timedClaim("X-Slack-Signature", texts.map(decodeHex), time, `v0:${time}:`);
    }
    case "standard": {
      const id = find("webhook-id");
      const time = find("webhook-timestamp");
      const texts = (find("webhook-signature") ?? "").split(" ").flatMap((part) => signaturesIn(part, "v1,"));
      if (id === undefined || id === "") return missing("webhook-id");
      return timedClaim("webhook-signature", texts.map(decodeBase64), time, `${id}.${time}.`);
    }
    case "hmac": {
      const { header, encoding, prefix, delivery } = verification;
      const texts = signaturesIn(find(header), prefix);
      const decode = encoding === "hex" ? decodeHex : decodeBase64;
      return claimOf(header, texts.map(decode), { delivery: delivery === undefined ? "" : find(delivery) });
    }
  }
}

function signaturesIn(value: string | undefined, prefix: string): string[] {
  return value?.startsWith(prefix) ? [value.slice(prefix.length)] : [];
}

function timedClaim(
  header: string,
  signatures: readonly (Uint8Array | undefined)[],
  time: string | undefined,
  before: string,
): Claim | NoClaim {
  if (time === undefined || !/^[0-9]{1,12}$/.test(time)) return missing(`${header} with a time`);
  return claimOf(header, signatures, { time: Number(time), before });
}

function claimOf(
  header: string,
  decoded: readonly (Uint8Array | undefined)[],
  {
    time,
    before = "",
    delivery = "",
  }: { readonly time?: number; readonly before?: string; readonly delivery?: string | undefined },
): Claim | NoClaim {
  const signatures = decoded.filter((signature) => signature !== undefined).slice(0, MOST_SIGNATURES);
  return signatures.length === 0 ? missing(header) : { signatures, before, time, delivery };
}

function missing(header: string): NoClaim {
  return { reason: "SignatureMissing", detail: `The request has no signature in the header ${header}.` };
}

function contentOf(before: string, body: Uint8Array): Uint8Array {
  // Header values have one octet to a character.
  const head = Uint8Array.from(before, (character) => character.charCodeAt(0));
  return head.length === 0 ? body : joinOctets([head, body], head.length + body.length);
}

function keyOf({ kind }: Verification, secret: string): Uint8Array {
  if (kind === "standard") return decodeBase64(standardKey(secret)) ?? new Uint8Array(0);
  return new TextEncoder().encode(secret);
}

function standardKey(secret: string): string {
  return secret.startsWith("whsec_") ? secret.slice("whsec_".length) : secret;
}

async function hmac(hash: string, key: Uint8Array, content: Uint8Array): Promise<Uint8Array> {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, content));
}

async function markOf(content: Uint8Array, delivery: string): Promise<string> {
  const first = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const id = new TextEncoder().encode(delivery);
  const named = joinOctets([first, id], first.length + id.length);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", named));
  return Array.from(digest.subarray(0, 16), (octet) => octet.toString(16).padStart(2, "0")).join("");
}

function decodeHex(text: string): Uint8Array | undefined {
  if (!/^(?:[0-9A-Fa-f]{2}){1,64}$/.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

function decodeBase64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]{1,700}={0,2}$/.test(text)) return undefined;
  try {
    return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}
