/**
 * User names and passwords for proxies. Each belongs to one proxy by host and port, and goes to no other.
 *
 * A proxy may lock an account after a few wrong passwords. So a password that was refused is not sent again, and while
 * nothing is known about one, only one connection tries it.
 *
 * @module
 */
import { formatHostPort } from "../../../lib/host-port.ts";
import type { Endpoint } from "../endpoint.ts";

export interface Credentials {
  /** Perhaps with a domain, for NTLM: `DOMAIN\user` or `user@domain`. */
  readonly user: string;
  readonly password: string;
}

/** Credentials, and the only proxy that gets them. */
export interface ProxyAccount extends Endpoint {
  readonly credentials: Credentials;
}

/**
 * Remembers passwords that a proxy has refused. `account` is proxy, user and password in one text: store it hashed.
 */
export interface RefusedPasswords {
  has(account: string): boolean;
  add(account: string): void;
  /** How the user makes it forget, as part of a sentence. */
  readonly cure: string;
}

/** Passwords refused in this process, for all its devices. Bounded: a program has few proxies. */
const REMEMBERED = 256;

export function refusedInMemory(): RefusedPasswords {
  const refused = new Set<string>();
  return {
    has: (account) => refused.has(account),
    add(account) {
      if (refused.size < REMEMBERED) refused.add(account);
    },
    cure: "restart the program to try it again",
  };
}

const PROCESS = refusedInMemory();

/**
 * How long others wait for the first connection that tries a password, in milliseconds. A proxy checks it before it
 * connects to the destination, so one that answers later has probably accepted it.
 */
export const TRIAL_WAIT = 2000;

/** One connection's use of a password. Call one of the methods, once. */
export interface Trial {
  accepted(): void;
  refused(): void;
  /** The proxy has not judged the password. */
  unknown(): void;
}

export class ProxyAccounts {
  readonly #accounts = new Map<string, Credentials>();
  readonly #memory: RefusedPasswords;
  readonly #accepted = new Set<string>();
  /** Settles when the trial of an account ends. */
  readonly #trials = new Map<string, Promise<void>>();

  constructor(accounts: readonly ProxyAccount[] = [], memory: RefusedPasswords = PROCESS) {
    this.learn(accounts);
    this.#memory = memory;
  }

  /** Adds credentials that a setting has for its own proxy. The first for a proxy count. */
  learn(accounts: readonly ProxyAccount[]): void {
    for (const account of accounts) {
      if (!this.#accounts.has(nameOf(account))) this.#accounts.set(nameOf(account), account.credentials);
    }
  }

  find(proxy: Endpoint): Credentials | undefined {
    return this.#accounts.get(nameOf(proxy));
  }

  /** How to make it forget that a password was refused. */
  get cure(): string {
    return this.#memory.cure;
  }

  /** Whether this proxy has accepted the password since the program started. */
  isAccepted(proxy: Endpoint, credentials: Credentials): boolean {
    return this.#accepted.has(accountOf(proxy, credentials));
  }

  isRefused(proxy: Endpoint, credentials: Credentials): boolean {
    return this.#memory.has(accountOf(proxy, credentials));
  }

  refused(proxy: Endpoint, credentials: Credentials): void {
    const account = accountOf(proxy, credentials);
    this.#accepted.delete(account);
    this.#memory.add(account);
  }

  /**
   * Begins to use a password. Waits while another connection is the first to try it.
   *
   * @returns undefined if the proxy has refused this password before
   */
  async begin(proxy: Endpoint, credentials: Credentials, signal: AbortSignal): Promise<Trial | undefined> {
    const account = accountOf(proxy, credentials);
    for (;;) {
      signal.throwIfAborted();
      if (this.#memory.has(account)) return undefined;
      const running = this.#trials.get(account);
      if (running === undefined || this.#accepted.has(account)) break;
      await endOrAbort(running, signal);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const isFirst = !this.#accepted.has(account);
    const timer = setTimeout(() => end(), TRIAL_WAIT);
    const end = () => {
      clearTimeout(timer);
      if (isFirst && this.#trials.get(account) === promise) this.#trials.delete(account);
      resolve();
    };
    if (isFirst) this.#trials.set(account, promise);
    return {
      accepted: () => {
        this.#accepted.add(account);
        end();
      },
      refused: () => {
        this.refused(proxy, credentials);
        end();
      },
      unknown: end,
    };
  }
}

function nameOf({ host, port }: Endpoint): string {
  return formatHostPort({ host: host.toLowerCase(), port });
}

function accountOf(proxy: Endpoint, { user, password }: Credentials): string {
  return JSON.stringify([nameOf(proxy), user, password]);
}

async function endOrAbort(running: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const onAbort = () => aborted.resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  await Promise.race([running, aborted.promise]);
  signal.removeEventListener("abort", onAbort);
}
