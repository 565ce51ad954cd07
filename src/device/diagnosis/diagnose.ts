/**
 * Finds out what a network lets through: tries every way to an edge or relay side by side, and says about each whether
 * it works and, if not, what to open.
 *
 *   ways ─► probes and checks of their paths ─► token ─► rates ─► observations ─► verdicts, findings, recommendation
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { prefixOf } from "../../encapsulation/index.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { parseAddress } from "../../sstp/index.ts";
import { DeviceError } from "../device-error.ts";
import { validOption } from "../recipients.ts";
import { candidates } from "../transports/candidates.ts";
import { findChoices } from "../transports/find-ways.ts";
import { Proxies } from "../transports/proxy/proxy-settings.ts";
import { edgeRoute, relayRoute } from "../transports/route.ts";
import { CAPABILITIES, type Way } from "../transports/transport.ts";
import { checkPath, checkPortal } from "./check-path.ts";
import { askRoom, judgeToken, type Room } from "./check-token.ts";
import { classify, recommend, type Verdict } from "./classify.ts";
import { failureOf } from "./failure.ts";
import { type Finding, findingsOf } from "./findings.ts";
import { NAME_OCTETS, PROBE_TIMEOUT, PROBED_WAYS, PROBES, RATE_TIMEOUT, SHOWN_ADDRESSES } from "./limits.ts";
import { measureRate, type RateOptions } from "./measure-rate.ts";
import {
  type AnswerObservation,
  type DnsObservation,
  type Failure,
  type PathObservation,
  pathOf,
  type TokenObservation,
  type WayObservation,
} from "./observations.ts";
import { probeWay, relayOf } from "./probe-way.ts";

export interface DiagnoseOptions {
  /** URL of the edge. Without it, only the relay is tried. */
  readonly edge?: string | undefined;
  /** `host` or `host:port` of a relay to reach by SSTP, past the edge. */
  readonly relay?: string | undefined;
  /** This device's address, `identity/device`: what the token is for. */
  readonly address: string;
  /** Judged by the edge, and used to measure rates. It goes only over verified TLS, unless `allowPlain` is set. */
  readonly token?: string | undefined;
  /** Also tries ways without TLS from an `https` edge, and lets the token go over ways without TLS. Default false. */
  readonly allowPlain?: boolean | undefined;
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca?: string | undefined;
  /** Default: those of the environment and the operating system. */
  readonly proxies?: Proxies | undefined;
  /** Milliseconds for each probe. Default 6 s. */
  readonly timeout?: number | undefined;
  /** Called when the ways are known, with their number. */
  readonly onStart?: ((ways: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A way with everything that is known about it. */
export interface DiagnosedWay extends Omit<WayObservation, "failure"> {
  readonly verdict: Verdict;
}

/** Free of tokens, passwords, and texts of servers and proxies: it can be handed to others. */
export interface Diagnosis {
  /** The URL of the edge, without credentials and query. */
  readonly edge: string | undefined;
  readonly relay: string | undefined;
  /** The host that everything is about, and its addresses as far as this machine knows them. */
  readonly host: string;
  readonly addresses: readonly string[];
  readonly at: Date;
  /** Best first. */
  readonly ways: readonly DiagnosedWay[];
  readonly findings: readonly Finding[];
  /** The way to use; undefined if none works. */
  readonly recommended: DiagnosedWay | undefined;
}

/**
 * Examines the network between this machine and an edge or relay. Takes a few seconds; where much is blocked, up to 6 s
 * for every four ways.
 *
 * @throws DeviceError InvalidOption; the reason of an aborted signal
 *
 * @example
 * const { recommended, findings } = await diagnose({ edge: "https://edge.example.com", address: "alice/laptop" });
 */
export async function diagnose(options: DiagnoseOptions): Promise<Diagnosis> {
  const examination = new Examination(options);
  return examination.run();
}

/** A device by the parts of its address. */
type Peer = RateOptions["self"];

class Examination {
  readonly #edge: string | undefined;
  readonly #host: string;
  readonly #self: Peer;
  readonly #probe: { readonly identity: string; readonly device: string };
  readonly #options: DiagnoseOptions;
  readonly #common: {
    readonly ca: string | undefined;
    readonly proxies: Proxies;
    readonly timeout: number;
    readonly signal: AbortSignal;
  };

  constructor(options: DiagnoseOptions) {
    this.#options = options;
    const { edge, relay, ca, proxies = new Proxies(), timeout = PROBE_TIMEOUT } = options;
    const { signal = new AbortController().signal } = options;
    this.#edge = edge === undefined ? undefined : shownUrl(edgeRoute(edge).edge);
    const route = relay === undefined ? undefined : relayRoute(relay);
    const host = this.#edge === undefined ? route?.host : edgeRoute(this.#edge).host;
    if (host === undefined)
      throw new DeviceError("InvalidOption", "neither an edge nor a relay is given: give one of them");
    this.#host = host;
    const { identity, device } = validOption("address", parseAddress(options.address));
    if (device === undefined) {
      throw new DeviceError(
        "InvalidOption",
        `address ${options.address} names no device: write ${options.address}/laptop`,
      );
    }
    this.#self = { identity, device };
    this.#probe = nobodyOf(identity);
    this.#common = { ca, proxies, timeout, signal };
  }

  async run(): Promise<Diagnosis> {
    const { signal } = this.#common;
    signal.throwIfAborted();
    const at = new Date();
    const { ways, failure: proxyFailure, problem: proxyProblem } = await this.#ways();
    this.#options.onStart?.(ways.length);
    const [dns, seen, paths] = await Promise.all([this.#dns(ways), this.#probes(ways), this.#paths(ways)]);
    const portal = await this.#portal(ways, paths);
    const works = seen.filter(
      ({ way, roundTrip }) => roundTrip !== undefined && CAPABILITIES[way.transport].carriesToken,
    );
    const { token, address } = await this.#token(works.map(({ way }) => way));
    const measured = address === undefined ? seen : await this.#rates(seen, address);
    const { edge, relay } = { edge: this.#edge, relay: this.#options.relay };
    const observations = { edge, relay, ways: measured, paths, dns, portal, token, proxyFailure, proxyProblem };
    const verdicts = classify(observations);
    const diagnosed = measured.flatMap(({ failure: _, ...rest }, i) => {
      const verdict = verdicts[i];
      return verdict === undefined ? [] : [{ ...rest, verdict }];
    });
    const best = recommend(verdicts);
    return {
      edge,
      relay,
      host: this.#host,
      addresses: dns?.addresses ?? [],
      at,
      ways: diagnosed,
      findings: findingsOf(observations),
      recommended: best === undefined ? undefined : diagnosed[best],
    };
  }

  async #ways(): Promise<{ readonly ways: readonly Way[]; readonly failure?: Failure; readonly problem?: string }> {
    const { relay, allowPlain } = this.#options;
    const asked = { edge: this.#edge, relay, allowPlain };
    try {
      const choices = await findChoices(asked, this.#common.proxies);
      const problem = choices.edge?.problem ?? choices.relay?.problem;
      const ways = candidates(asked, choices).slice(0, PROBED_WAYS);
      return { ways, ...(problem !== undefined && { problem }) };
    } catch (error) {
      if (error instanceof DeviceError && error.code === "ProxyFailed") return { ways: [], failure: failureOf(error) };
      throw error;
    }
  }

  #probes(ways: readonly Way[]): Promise<WayObservation[]> {
    const edge = this.#edge;
    return sideBySide(ways, (way) => {
      const relay = relayOf(way, { edge, relay: this.#options.relay });
      return probeWay(way, { ...this.#common, edge, relay, self: this.#probe });
    });
  }

  async #paths(ways: readonly Way[]): Promise<Map<string, PathObservation>> {
    // Ways that differ in their transport only have the same path.
    const byPath = [...new Map(ways.map((way) => [pathOf(way), way]))];
    const seen = await sideBySide(byPath, async ([key, way]) => {
      return [key, await checkPath(way, { ...this.#common, edge: this.#edge })] as const;
    });
    return new Map(seen);
  }

  async #dns(ways: readonly Way[]): Promise<DnsObservation | undefined> {
    const host = this.#host;
    if (isIP(host) !== 0 || !ways.some(({ proxies }) => proxies.length === 0)) return undefined;
    try {
      const found = await within(this.#common.timeout, lookup(host, { all: true, order: "verbatim" }));
      return { host, addresses: (found?.value ?? []).map(({ address }) => address).slice(0, SHOWN_ADDRESSES) };
    } catch (error) {
      return { host, addresses: [], system: failureOf(error).system };
    }
  }

  /** Asks at the port for plain HTTP too, if an edge with TLS is not reached directly. */
  async #portal(
    ways: readonly Way[],
    paths: ReadonlyMap<string, PathObservation>,
  ): Promise<AnswerObservation | undefined> {
    const direct = ways.filter(({ secure, proxies, transport }) => {
      return secure && proxies.length === 0 && CAPABILITIES[transport].carriesToken;
    });
    const isReached = direct.some((way) => paths.get(pathOf(way))?.answer?.by === "edge");
    if (direct.length === 0 || isReached) return undefined;
    return checkPortal(this.#host, { ...this.#common, edge: this.#edge });
  }

  /** Has the token judged, and finds an address with which rates can be measured. */
  async #token(works: readonly Way[]): Promise<{ readonly token: TokenObservation; readonly address?: Peer }> {
    const { token } = this.#options;
    const edge = this.#edge;
    const way = works.find((candidate) => this.#mayCarryToken(candidate));
    if (edge === undefined || way === undefined) return { token: { type: token === undefined ? "none" : "kept" } };
    const own = await this.#room(way, this.#self);
    const judged = judgeToken(own, { edge, token, address: this.#self });
    // The token may be for one device only.
    const another = await this.#room(way, this.#probe);
    if (another.type === "open") return { token: judged, address: this.#probe };
    return { token: judged, ...(own.type === "open" && { address: this.#self }) };
  }

  #room(way: Way, self: Peer): Promise<Room> {
    const { token } = this.#options;
    return askRoom(way, self, { ...this.#common, edge: this.#edge ?? "", token, address: this.#self });
  }

  #mayCarryToken({ secure }: Way): boolean {
    return this.#options.token === undefined || secure || this.#options.allowPlain === true;
  }

  /** One after the other: together they would share the line. */
  async #rates(seen: readonly WayObservation[], self: Peer): Promise<WayObservation[]> {
    const all: WayObservation[] = [];
    for (const one of seen) {
      const { way, roundTrip } = one;
      // Behind a slow line, the edge holds the last one for connected a while longer.
      const peer = self === this.#probe ? nobodyOf(self.identity) : self;
      const { carriesToken } = CAPABILITIES[way.transport];
      const isMeasured = roundTrip !== undefined && carriesToken && this.#mayCarryToken(way);
      all.push(isMeasured ? { ...one, rate: await this.#rate(way, peer) } : one);
    }
    return all;
  }

  async #rate(way: Way, self: Peer): Promise<number | undefined> {
    const { token } = this.#options;
    // Asked each time: a device that has connected meanwhile must not be disconnected.
    const room = await this.#room(way, self);
    if (room.type !== "open" || !room.isFree) return undefined;
    const timeout = Math.min(this.#common.timeout, RATE_TIMEOUT);
    const edge = this.#edge ?? "";
    const relay = relayOf(way, { edge, relay: undefined });
    return measureRate(way, { ...this.#common, edge, relay, token, self, timeout });
  }
}

/** A device of an identity that does not exist, so that none is disconnected. */
function nobodyOf(identity: string) {
  return { identity, device: `doctor-${randomBytes(NAME_OCTETS).toString("hex")}` };
}

/** Runs at most PROBES at a time; results are in the order of the items. */
async function sideBySide<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const places = new Semaphore(PROBES);
  return Promise.all(
    items.map(async (item) => {
      await places.take();
      try {
        return await run(item);
      } finally {
        places.give();
      }
    }),
  );
}

/** The URL without credentials, query and fragment. */
function shownUrl({ origin, pathname }: URL): string {
  return `${origin}${prefixOf(new URL(pathname, origin))}`;
}
