/**
 * An HTTP proxy that forwards requests with absolute targets: answers its challenges to the encapsulations' own
 * requests, on each connection anew where the scheme authenticates connections. Without Negotiate, whose tokens come too
 * late for them.
 *
 * @module
 */
import type { Authorization, Challenge as ClientChallenge } from "../../../encapsulation/index.ts";
import type { DeviceError } from "../../device-error.ts";
import { Authenticator } from "./authenticate.ts";
import { parseChallenges, schemesOf } from "./challenge.ts";
import type { ProxyAccounts } from "./credentials.ts";
import { type NamedProxy, proxyNeedsCredentials, proxyRefusesCredentials } from "./proxy-error.ts";

export class ForwardingProxy {
  readonly #named: NamedProxy;
  readonly #accounts: ProxyAccounts;
  /** By session: each has a connection of its own. */
  readonly #authenticators = new Map<string, Authenticator>();
  #failure: DeviceError | undefined;

  constructor(named: NamedProxy, accounts: ProxyAccounts) {
    this.#named = named;
    this.#accounts = accounts;
  }

  /** Returns how to repeat a request, or undefined to give up. */
  authorize({
    status,
    session,
    challenges,
    round,
    isKept,
    method,
    target,
  }: ClientChallenge): Authorization | undefined {
    const { proxy } = this.#named;
    const credentials = this.#accounts.find(proxy);
    if (status !== 407 || (credentials !== undefined && this.#accounts.isRefused(proxy, credentials))) return undefined;
    const before = this.#authenticators.get(session);
    // The first round may answer a request that had the password already: the proxy no longer takes it.
    let authenticator = round === 1 && before?.isConstant !== true ? undefined : before;
    if (authenticator === undefined) {
      const named = this.#named;
      authenticator = new Authenticator({ named, credentials, method, uri: target, mayNegotiate: false });
      this.#authenticators.set(session, authenticator);
    }
    const step = authenticator.answer(challenges, isKept);
    if (step.type === "authorization") {
      return { headers: [["Proxy-Authorization", step.value]], isUnfinished: authenticator.isUnfinished };
    }
    if (step.type === "failed") this.#failure = step.error;
    if (step.type === "refused" && credentials !== undefined) this.#accounts.refused(proxy, credentials);
    return undefined;
  }

  /** Why a 407 could not be answered. */
  refusal(challenges: readonly string[] = []): DeviceError {
    const { proxy } = this.#named;
    const credentials = this.#accounts.find(proxy);
    if (credentials !== undefined && this.#accounts.isRefused(proxy, credentials)) {
      return proxyRefusesCredentials(this.#named, this.#accounts.cure);
    }
    return this.#failure ?? proxyNeedsCredentials(this.#named, schemesOf(parseChallenges(challenges)));
  }
}
