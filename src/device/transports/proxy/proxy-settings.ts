/**
 * Finds the proxies for a destination. The first of these that is set counts:
 *
 *   the option proxy (--proxy)                     proxies, a PAC file (pac+URL), or direct
 *   HTTPS_PROXY, HTTP_PROXY, ALL_PROXY             unless NO_PROXY names the destination
 *   GROOVEWAY_PAC                                  URL or path of a PAC file
 *   the operating system                           Windows, macOS, GNOME, KDE; by WPAD only if it says so
 *
 * Asked anew for each connection, since a laptop changes networks. Loopback has a proxy only by the option.
 *
 * @module
 */
import { formatHostPort } from "../../../lib/host-port.ts";
import { isLoopback } from "../../../lib/near-address.ts";
import { visible } from "../../../lib/printable.ts";
import { DeviceError } from "../../device-error.ts";
import { NO_PROXY_SET, type ProxyChoice, proxyText } from "../candidates.ts";
import type { Endpoint } from "../endpoint.ts";
import type { ProxyChain } from "../transport.ts";
import { type ProxyAccount, ProxyAccounts, type RefusedPasswords } from "./credentials.ts";
import { matchesNoProxy } from "./no-proxy.ts";
import { fetchPac, findProxies, pacSource } from "./pac.ts";
import type { PacDestination } from "./pac-script.ts";
import { parseProxies } from "./proxy-url.ts";
import { askSystem, type SystemAnswer } from "./system-settings/ask-system.ts";

export interface ProxyOptions {
  /**
   * One proxy or a chain, the nearest first: `http://user:password@proxy.example.com:3128`, `socks5://127.0.0.1:1080`.
   * `pac+http://...` or `pac+file:///...`: what that PAC file says. `direct`: none. Default: as described above.
   */
  readonly proxy?: string | undefined;
  /** What messages call that option. Default: `the option proxy`. */
  readonly optionName?: string | undefined;
  /** Credentials for proxies, whatever names those. */
  readonly accounts?: readonly ProxyAccount[] | undefined;
  /** Default: remembers for this process. */
  readonly refused?: RefusedPasswords | undefined;
  /** Default: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Default: asks the operating system. */
  readonly system?: (() => Promise<SystemAnswer | undefined>) | undefined;
  /** Called when the proxies for a destination are others than before, with a line for the user. */
  readonly onChoice?: ((text: string) => void) | undefined;
}

/** A destination. */
export interface ProxyDestination extends Endpoint {
  /** `http` only for plain HTTP; SSTP counts as `https`. */
  readonly scheme: "http" | "https";
}

/** Where a system with WPAD finds its PAC file: the name is completed by the search domain of the network. */
const WPAD = "http://wpad/wpad.dat";

/** Destinations whose last choice is remembered, in order to report changes. */
const DESTINATIONS = 64;

export class Proxies {
  readonly accounts: ProxyAccounts;
  readonly #options: ProxyOptions;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #option: ParsedOption | undefined;
  readonly #optionName: string;
  /** The last choice for each destination, as text. */
  readonly #reported = new Map<string, string>();

  /** @throws DeviceError InvalidOption */
  constructor(options: ProxyOptions = {}) {
    this.#options = options;
    this.#env = options.env ?? process.env;
    this.#optionName = options.optionName ?? "the option proxy";
    this.#option = options.proxy === undefined ? undefined : parseOption(options.proxy, this.#optionName);
    // What is written with the proxy comes first, since that is for this program alone.
    const own = this.#option?.type === "chain" ? this.#option.accounts : [];
    this.accounts = new ProxyAccounts([...own, ...(options.accounts ?? [])], options.refused);
  }

  /** Whether a destination certainly has no proxy, which is known at once. */
  isDirect({ host }: Endpoint): boolean {
    return this.#option === undefined ? isOwn(host) : this.#option.type === "direct";
  }

  /**
   * Finds the proxies for a destination.
   *
   * @throws DeviceError InvalidOption if a variable names no proxy; ProxyFailed if the PAC file of the option fails
   */
  async choose(to: ProxyDestination): Promise<ProxyChoice> {
    const choice = await this.#choose(to);
    this.#report(to, choice);
    return choice;
  }

  async #choose(to: ProxyDestination): Promise<ProxyChoice> {
    const option = this.#option;
    switch (option?.type) {
      case "direct":
        return { chains: [[]], source: this.#optionName, isForced: true };
      case "chain":
        return { chains: [option.chain], source: this.#optionName, isForced: true };
      case "pac":
        return { chains: await this.#pac(option.location, to), source: pacSource(option.location), isForced: true };
      case undefined:
    }
    if (isOwn(to.host)) return NO_PROXY_SET;
    return this.#fromEnvironment(to) ?? (await this.#fromPac(to)) ?? (await this.#fromSystem(to)) ?? NO_PROXY_SET;
  }

  #fromEnvironment(to: ProxyDestination): ProxyChoice | undefined {
    const names = [
      ...(to.scheme === "https" ? ["https_proxy", "HTTPS_PROXY"] : httpNames(this.#env)),
      "all_proxy",
      "ALL_PROXY",
    ];
    const name = names.find((candidate) => this.#env[candidate] !== undefined);
    const value = name === undefined ? undefined : this.#env[name];
    if (name === undefined || value === undefined) return undefined;
    const exceptions = this.#env.no_proxy ?? this.#env.NO_PROXY ?? "";
    if (matchesNoProxy(exceptions, to)) return { chains: [[]], source: "NO_PROXY", isForced: false };
    if (value.trim() === "") return { chains: [[]], source: `${name}, which is empty`, isForced: false };
    const { chain, accounts } = parseProxies(value, name);
    this.accounts.learn(accounts);
    return { chains: [chain], source: name, isForced: false };
  }

  async #fromPac(to: ProxyDestination): Promise<ProxyChoice | undefined> {
    const location = this.#env.GROOVEWAY_PAC ?? "";
    if (location === "") return undefined;
    return this.#pacOrDirect(location, to, `${pacSource(location)}, from GROOVEWAY_PAC`);
  }

  async #fromSystem(to: ProxyDestination): Promise<ProxyChoice | undefined> {
    const found = await (this.#options.system ?? (() => askSystem()))();
    if (found === undefined) return undefined;
    const { proxies, source } = found;
    const { pac } = proxies;
    if (proxies.isAutomatic === true) {
      const chains = await this.#pac(WPAD, to).catch(() => undefined);
      if (chains !== undefined) return { chains, source: `${pacSource(WPAD)}, by ${source}`, isForced: false };
    }
    const text = (to.scheme === "https" ? proxies.https : proxies.http) ?? proxies.socks;
    if (pac !== undefined && pac !== "") {
      const choice = await this.#pacOrDirect(pac, to, `${pacSource(pac)}, from ${source}`);
      // As in browsers: without the PAC file, the proxies beside it count.
      if (choice.problem === undefined || text === undefined) return choice;
    }
    if (text === undefined) return undefined;
    if (matchesNoProxy(proxies.noProxy ?? "", to)) {
      return { chains: [[]], source: `the exceptions in ${source}`, isForced: false };
    }
    const { chain, accounts } = parseProxies(text, source);
    this.accounts.learn(accounts);
    return { chains: [chain], source, isForced: false };
  }

  /** Away from its network a PAC file cannot be fetched. Then the connection is direct. */
  async #pacOrDirect(location: string, to: ProxyDestination, source: string): Promise<ProxyChoice> {
    try {
      return { chains: await this.#pac(location, to), source, isForced: false };
    } catch (error) {
      const problem = error instanceof DeviceError ? error.message : String(error);
      return { chains: [[]], source: `${source}, but ${problem}`, isForced: false, problem };
    }
  }

  async #pac(location: string, { scheme, host }: PacDestination): Promise<ProxyChain[]> {
    const failed = (what: string, error: unknown) => {
      const why = visible(error instanceof Error ? error.message : String(error)).slice(0, 200);
      const text = `${pacSource(location)} ${what}: ${why}`;
      return new DeviceError("ProxyFailed", text, { advice: "retry" });
    };
    const script = await fetchPac(location).catch((error: unknown) => {
      throw failed("cannot be fetched", error);
    });
    return findProxies(script, { scheme, host }).catch((error: unknown) => {
      throw failed("cannot be used", error);
    });
  }

  #report(to: ProxyDestination, choice: ProxyChoice): void {
    const key = formatHostPort(to);
    const text = choiceText(choice);
    const before = this.#reported.get(key) ?? NO_PROXY_TEXT;
    if (before === text) return;
    if (this.#reported.size === DESTINATIONS) this.#reported.clear();
    this.#reported.set(key, text);
    this.#options.onChoice?.(`${key}: ${text}`);
  }
}

/** Describes a choice in one line, without credentials. */
export function choiceText({ chains, source }: ProxyChoice): string {
  const ways = chains.map((chain) => (chain.length === 0 ? "direct" : chain.map(proxyText).join(" then ")));
  return `${visible(ways.join(", or "))} (${visible(source)})`;
}

const NO_PROXY_TEXT = choiceText(NO_PROXY_SET);

type ParsedOption =
  | { readonly type: "direct" }
  | { readonly type: "chain"; readonly chain: ProxyChain; readonly accounts: readonly ProxyAccount[] }
  | { readonly type: "pac"; readonly location: string };

function parseOption(text: string, name: string): ParsedOption {
  if (text === "direct") return { type: "direct" };
  const [, location] = /^pac\+(.+)$/is.exec(text) ?? [];
  if (location !== undefined) return { type: "pac", location };
  return { type: "chain", ...parseProxies(text, name) };
}

/** In a CGI program, `HTTP_PROXY` is a header of the request. */
function httpNames(env: Readonly<Record<string, string | undefined>>): string[] {
  return env.REQUEST_METHOD === undefined ? ["http_proxy", "HTTP_PROXY"] : ["http_proxy"];
}

/** Whether a host is this machine. */
function isOwn(host: string): boolean {
  return isLoopback(host) || /(?:^|\.)localhost\.?$/i.test(host);
}
