/**
 * Answers the challenges of an HTTP proxy with the strongest scheme that it offers: Negotiate, Digest with SHA-256,
 * NTLM, Digest with MD5, Basic. Basic shows the password to everyone on the way, so it is used only where the proxy
 * offers nothing else, never after another scheme failed.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { DeviceError } from "../../device-error.ts";
import { basicAuthorization } from "./basic.ts";
import { type Challenge, parseChallenges, schemesOf } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";
import { digestAuthorization, digestHash, isStale } from "./digest.ts";
import type { NegotiateStep } from "./negotiate.ts";
import { ntlmAuthenticate, ntlmNegotiate, parseNtlmChallenge } from "./ntlm.ts";
import {
  type NamedProxy,
  notAProxy,
  proxyNeedsCredentials,
  proxyOffersNothing,
  proxyRefusesTicket,
} from "./proxy-error.ts";

export type AuthenticationStep =
  /** The value of Proxy-Authorization for the next request. */
  | { readonly type: "authorization"; readonly value: string }
  /** Ask Kerberos for the next token, then call `negotiated`. */
  | { readonly type: "negotiate"; readonly token: string | undefined }
  /** The proxy has judged the credentials. */
  | { readonly type: "refused" }
  | { readonly type: "failed"; readonly error: DeviceError };

export interface AuthenticatorOptions {
  readonly named: NamedProxy;
  readonly credentials: Credentials | undefined;
  readonly method: string;
  /** The request target. */
  readonly uri: string;
  /** Whether Negotiate may be used. */
  readonly mayNegotiate: boolean;
}

/** NTLM is between its first and its last message. */
type Scheme = "negotiate" | "digest" | "ntlm begun" | "ntlm" | "basic";

/** Authenticates one request, over one connection or, except for NTLM and Negotiate, several. */
export class Authenticator {
  readonly #options: AuthenticatorOptions;
  #scheme: Scheme | undefined;
  #mayNegotiate: boolean;
  /** Whether the proxy has refused a ticket. It says nothing about the password, which has not been sent. */
  #hasRefusedTicket = false;
  #isRenewed = false;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#mayNegotiate = options.mayNegotiate;
  }

  /** Whether each request carries the same value, so that another 407 refuses it. */
  get isConstant(): boolean {
    return this.#scheme === "basic";
  }

  /** Whether the last value may go over another connection: messages of NTLM and Negotiate belong to theirs. */
  get mayRepeat(): boolean {
    return this.#scheme === "digest" || this.#scheme === "basic" || this.#scheme === "ntlm begun";
  }

  /** Whether the proxy has been sent something from which it can judge the password. */
  get hasSentPassword(): boolean {
    return this.#scheme === "digest" || this.#scheme === "ntlm" || this.#scheme === "basic";
  }

  /** Whether another challenge follows on the same connection, before the proxy has been shown the password. */
  get isUnfinished(): boolean {
    return this.#scheme === "ntlm begun";
  }

  /**
   * Answers a 407.
   *
   * @param isOpen whether the next request goes over the same connection
   */
  answer(values: readonly string[], isOpen: boolean): AuthenticationStep {
    const challenges = parseChallenges(values);
    const find = (scheme: string) => challenges.find((challenge) => challenge.scheme === scheme);
    switch (this.#scheme) {
      case undefined:
        return this.#begin(challenges);
      case "ntlm begun":
        return this.#finishNtlm(find("ntlm")?.token, isOpen);
      case "digest": {
        const renewed = this.#isRenewed ? undefined : strongestDigest(challenges);
        this.#isRenewed = true;
        return renewed !== undefined && isStale(renewed) ? this.#digest(renewed) : { type: "refused" };
      }
      case "negotiate": {
        const token = find("negotiate")?.token;
        if (token !== undefined && isOpen) return { type: "negotiate", token };
        this.#hasRefusedTicket = true;
        this.#mayNegotiate = false;
        return this.#begin(challenges);
      }
      case "ntlm":
      case "basic":
        return { type: "refused" };
    }
  }

  /** Continues with a token of Kerberos. Without one, chooses the next scheme among the same challenges. */
  negotiated(token: string | undefined, values: readonly string[]): AuthenticationStep {
    if (token !== undefined) return { type: "authorization", value: `Negotiate ${token}` };
    this.#mayNegotiate = false;
    this.#scheme = undefined;
    return this.#begin(parseChallenges(values));
  }

  #begin(challenges: readonly Challenge[]): AuthenticationStep {
    const { named, credentials } = this.#options;
    const has = (scheme: string) => challenges.some((challenge) => challenge.scheme === scheme);
    if (this.#mayNegotiate && has("negotiate")) {
      this.#scheme = "negotiate";
      return { type: "negotiate", token: undefined };
    }
    const offers = schemesOf(challenges);
    if (credentials === undefined) {
      return failed(this.#hasRefusedTicket ? proxyRefusesTicket(named) : proxyNeedsCredentials(named, offers));
    }
    const digest = strongestDigest(challenges);
    if (digest !== undefined && (digestHash(digest) === "sha256" || !has("ntlm"))) {
      this.#scheme = "digest";
      return this.#digest(digest);
    }
    if (has("ntlm")) {
      this.#scheme = "ntlm begun";
      return authorization(`NTLM ${ntlmNegotiate()}`);
    }
    if (!has("basic")) {
      const why = `it offers ${offers.join(", ") || "no scheme"}, and this client knows Negotiate (with the package kerberos), Digest, NTLM and Basic`;
      return failed(proxyOffersNothing(named, why));
    }
    if (has("negotiate") || has("digest") || this.#hasRefusedTicket) {
      const why = `it offers ${offers.join(", ")}, of which only Basic can be used here, and a password is not sent readable where there is something better; for Negotiate, install the package kerberos and get a ticket (kinit)`;
      return failed(proxyOffersNothing(named, why));
    }
    const value = basicAuthorization(credentials);
    if (value === undefined)
      return failed(proxyOffersNothing(named, "it offers Basic, in which a user name has no colon"));
    this.#scheme = "basic";
    return authorization(value);
  }

  #digest(challenge: Challenge): AuthenticationStep {
    const { credentials, method, uri } = this.#options;
    if (credentials === undefined) return { type: "refused" };
    const cnonce = randomBytes(16).toString("hex");
    return authorization(digestAuthorization(challenge, credentials, { method, uri, cnonce, count: 1 }));
  }

  #finishNtlm(token: string | undefined, isOpen: boolean): AuthenticationStep {
    const { named, credentials } = this.#options;
    const challenge = token === undefined ? undefined : parseNtlmChallenge(token);
    if (challenge === undefined || credentials === undefined) {
      return failed(notAProxy(named, "Its NTLM challenge is missing or malformed."));
    }
    if (!isOpen) return failed(notAProxy(named, "It closes the connection between the messages of NTLM."));
    this.#scheme = "ntlm";
    const random = { clientChallenge: randomBytes(8), now: Date.now() };
    return authorization(`NTLM ${ntlmAuthenticate(challenge, credentials, random)}`);
  }
}

/** Gets the next token, and continues without Negotiate if there is none. */
export async function negotiateStep(
  authenticator: Authenticator,
  step: NegotiateStep | undefined,
  { token, challenges }: { readonly token: string | undefined; readonly challenges: readonly string[] },
): Promise<AuthenticationStep> {
  const own = await step?.(token).catch(() => undefined);
  return authenticator.negotiated(own, challenges);
}

function strongestDigest(challenges: readonly Challenge[]): Challenge | undefined {
  const usable = (hash: string) => challenges.find((challenge) => digestHash(challenge) === hash);
  return usable("sha256") ?? usable("md5");
}

function authorization(value: string): AuthenticationStep {
  return { type: "authorization", value };
}

function failed(error: DeviceError): AuthenticationStep {
  return { type: "failed", error };
}
