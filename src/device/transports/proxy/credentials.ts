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
import type { ProxyKind } from "../transport.ts";

export interface Credentials {
  /** Perhaps with a domain, for NTLM: `DOMAIN\user` or `user@domain`. */
  readonly user: string;
  readonly password: string;
}

/** Credentials, and the only proxy that gets them. */
export interface ProxyAccount extends Endpoint {
  readonly credentials: Credentials;
  /** Whether it gets them only over TLS, because it was written as https. Default false. */
  readonly secure?: boolean | undefined;
}

/** A proxy that may have an account, as something names it. */
export interface AccountOwner extends Endpoint {
  readonly kind?: ProxyKind | undefined;
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
 * How long a second connection waits for the first that tries a password, in milliseconds. A proxy checks it before it
 * connects to the destination, so one that answers later has probably accepted it.
 */
export const TRIAL_WAIT = 2000;

/**
 * Connections at a time that have tried a password which the proxy has not judged. Some proxies take seconds to refuse
 * one, and an account is locked after three wrong passwords or more.
 */
const UNJUDGED = 2;

/**
 * For how many milliseconds a password that a proxy has accepted is right without another trial. The account may change
 * while a device runs, and all the connections that it then makes at once must not show the old password.
 */
export const ACCEPTED_TIME = 60_000;

/** One connection's use of a password. Call one of the methods, once. */
export interface Trial {
  accepted(): void;
  refused(): void;
  /** The proxy has not judged the password. */
  unknown(): void;
}

/** How passwords are used. Devices that share a memory share this too, or each of them would try a wrong password. */
interface Uses {
  /** When each account was last accepted. */
  readonly accepted: Map<string, number>;
  readonly trials: Map<string, Set<RunningTrial>>;
}

const USES = new WeakMap<RefusedPasswords, Uses>();

export class ProxyAccounts {
  readonly #accounts = new Map<string, ProxyAccount[]>();
  readonly #memory: RefusedPasswords;
  readonly #accepted: Map<string, number>;
  readonly #trials: Map<string, Set<RunningTrial>>;

  constructor(accounts: readonly ProxyAccount[] = [], memory: RefusedPasswords = PROCESS) {
    this.learn(accounts);
    this.#memory = memory;
    const { accepted, trials } = USES.get(memory) ?? { accepted: new Map(), trials: new Map() };
    USES.set(memory, { accepted, trials });
    this.#accepted = accepted;
    this.#trials = trials;
  }

  /** Adds credentials that a setting has for its own proxy. The first for a proxy count. */
  learn(accounts: readonly ProxyAccount[]): void {
    for (const account of accounts) {
      const name = nameOf(account);
      const known = this.#accounts.get(name) ?? [];
      const isKnown = known.some(({ secure }) => (secure === true) === (account.secure === true));
      if (!isKnown) this.#accounts.set(name, [...known, account]);
    }
  }

  /** Returns the credentials for a proxy. Those for a proxy over TLS do not go to the same host and port without. */
  find(proxy: AccountOwner): Credentials | undefined {
    const known = this.#accounts.get(nameOf(proxy)) ?? [];
    return known.find(({ secure }) => secure !== true || proxy.kind === "https")?.credentials;
  }

  /** How to make it forget that a password was refused. */
  get cure(): string {
    return this.#memory.cure;
  }

  /** Whether this proxy has accepted the password lately. */
  isAccepted(proxy: Endpoint, credentials: Credentials): boolean {
    return this.#isProven(accountOf(proxy, credentials));
  }

  #isProven(account: string): boolean {
    const at = this.#accepted.get(account);
    return at !== undefined && performance.now() - at < ACCEPTED_TIME;
  }

  isRefused(proxy: Endpoint, credentials: Credentials): boolean {
    return this.#memory.has(accountOf(proxy, credentials));
  }

  refused(proxy: Endpoint, credentials: Credentials): void {
    this.#refuse(accountOf(proxy, credentials));
  }

  /**
   * Begins to use a password. Waits while others are the first to try it.
   *
   * @returns undefined if the proxy has refused this password before
   */
  async begin(proxy: Endpoint, credentials: Credentials, signal: AbortSignal): Promise<Trial | undefined> {
    const account = accountOf(proxy, credentials);
    for (;;) {
      signal.throwIfAborted();
      if (this.#memory.has(account)) return undefined;
      const running = [...(this.#trials.get(account) ?? [])];
      if (this.#isProven(account)) break;
      const mayJoin = running.length < UNJUDGED;
      if (mayJoin && running.every(({ isLate }) => isLate)) break;
      const changes = running.flatMap(({ ended, late }) => (mayJoin ? [ended, late] : [ended]));
      await endOrAbort(Promise.race(changes), signal);
    }
    return this.#isProven(account) ? this.#proven(account) : this.#tried(account);
  }

  #proven(account: string): Trial {
    const accepted = () => void this.#accepted.set(account, performance.now());
    return { accepted, refused: () => this.#refuse(account), unknown: () => undefined };
  }

  #tried(account: string): Trial {
    const [ended, late] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const trial: RunningTrial = { ended: ended.promise, late: late.promise, isLate: false };
    const running = this.#trials.get(account) ?? new Set();
    this.#trials.set(account, running.add(trial));
    const timer = setTimeout(() => {
      trial.isLate = true;
      late.resolve();
    }, TRIAL_WAIT);
    const end = () => {
      clearTimeout(timer);
      running.delete(trial);
      if (running.size === 0 && this.#trials.get(account) === running) this.#trials.delete(account);
      ended.resolve();
    };
    return {
      accepted: () => {
        this.#accepted.set(account, performance.now());
        end();
      },
      refused: () => {
        this.#refuse(account);
        end();
      },
      unknown: end,
    };
  }

  #refuse(account: string): void {
    this.#accepted.delete(account);
    this.#memory.add(account);
  }
}

/** A connection that tries a password. */
interface RunningTrial {
  readonly ended: Promise<void>;
  /** Resolves when it has lasted for TRIAL_WAIT. */
  readonly late: Promise<void>;
  isLate: boolean;
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
