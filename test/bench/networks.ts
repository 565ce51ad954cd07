/**
 * Devices behind firewalls and proxies: how soon the first message is through each network of `test/networks`, and the
 * rates through squid and nginx beside engine.io and httptunnel, which go through the same boxes.
 */
import type { DeviceOptions, TransportName } from "../../src/device/index.ts";
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { nginx, squid } from "../networks/boxes.ts";
import type { Tally } from "../networks/exchange.ts";
import { COMMAND, Internet, type Network, WITHOUT_PROXIES } from "../networks/internet.ts";
import { NEEDS, type Need, whyNot } from "../networks/needs.ts";
import type { ConnectArgument, Connected } from "../networks/peer.ts";
import { NETWORKS, optionsOf, type Row } from "../networks/table.ts";
import { Child } from "../support/rpc.ts";
import type { Way } from "./lines.ts";
import type { Trips } from "./near.ts";
import { type EngineTransport, httptunnelPrograms, installPackages } from "./peers.ts";
import {
  alternate,
  atOnce,
  type Contender,
  type Figure,
  figureOf,
  type Goal,
  intact,
  quantile,
  type Section,
  short,
} from "./report.ts";
import { type Load, type NamedWay, QUICK, transfer, within } from "./transfers.ts";

export async function* networks(quick: boolean): AsyncGenerator<Section> {
  const why = reasonOf(whyNot([], true));
  if (why !== undefined) {
    yield skippedSection("networks", why);
    return;
  }
  for (const bench of [firstMessages, rates]) {
    const internet = new Internet();
    try {
      yield* bench(internet, quick);
    } finally {
      await internet.close();
    }
  }
}

/** Why something is skipped, without the word that the report puts before it. */
function reasonOf(whyNot: string | false): string | undefined {
  return whyNot === false ? undefined : whyNot.replace(/^SKIPPED: /, "");
}

function skippedSection(name: string, why: string): Section {
  return { name, unit: "", counted: "", figures: [], goals: [], notes: [`SKIPPED: ${why}`] };
}

/** A device has its first message through by then, in ms, in the worst network that lets anything through. */
const WORST_FIRST_MESSAGE = 6_000;

/** The same in a network without obstacles, on one machine. */
const OPEN_FIRST_MESSAGE = 300;

/** How long a device is waited for, in ms: longer than the goal, so that a figure beyond it is a figure. */
const PATIENCE = 30_000;

/** How long a device may take to name what lets nothing through, in ms. */
const NAMED = 6_000;

async function* firstMessages(internet: Internet, quick: boolean): AsyncGenerator<Section> {
  await Promise.all([internet.edge("http"), internet.edge("https"), internet.relay()]);
  const through: Figure[] = [];
  const stopped: Figure[] = [];
  let worst = 0;
  for (const row of NETWORKS) {
    const { name } = row;
    const skipped = reasonOf(whyNot(row.needs ?? [], true));
    const net = internet.network();
    if (skipped === undefined) await row.build(net);
    const lets = row.works.length > 0;
    const used = new Set<string>();
    const round = lets ? await throughOf(net, row, used) : () => namedIn(net, row, used);
    const [figure] = await alternate([{ name, against: [], skipped, round }], quick ? 2 : 5);
    if (figure === undefined) continue;
    const named = used.size === 0 ? figure : { ...figure, name: `${name} (${[...used].join(", ")})` };
    (lets ? through : stopped).push(named);
    if (lets) worst = Math.max(worst, ...figure.rounds);
  }
  const [open] = through;
  const ratio = ({ median }: Figure) => (median ?? Number.NaN) / (open?.median ?? Number.NaN);
  const compared = through.map((figure) =>
    figure === open || figure.median === undefined
      ? figure
      : { ...figure, against: [{ name: "open", ratio: ratio(figure) }] },
  );
  yield {
    name: "time to the first message: from Device.connect() to the edge's acknowledgement",
    unit: "ms",
    counted: "messages",
    figures: compared,
    goals: [
      intact(compared),
      {
        text: `open <= ${OPEN_FIRST_MESSAGE} ms (${short(open?.median ?? Number.NaN)})`,
        met: (open?.median ?? Number.POSITIVE_INFINITY) <= OPEN_FIRST_MESSAGE,
      },
      { text: `each at most ${WORST_FIRST_MESSAGE} ms (${short(worst)})`, met: worst <= WORST_FIRST_MESSAGE },
    ],
    notes: ["Each time in a new process of Node, which remembers no network. In brackets, the ways that were found."],
  };
  yield {
    name: "time until a device names what lets nothing through",
    unit: "ms",
    counted: "attempts",
    figures: stopped,
    goals: [
      {
        text: `each within ${NAMED} ms`,
        met: stopped.every(({ missing, rounds }) => missing === undefined && rounds.every((value) => value <= NAMED)),
      },
    ],
    notes: [],
  };
}

/** Counts the devices of a network, and with them the first messages to a device on the internet. */
let devices = 0;

/** Has a device of its own for each round find its way, and adds that to `used`. */
async function throughOf(net: Network, row: Row, used: Set<string>): Promise<Contender["round"]> {
  const { far, certificates } = net.internet;
  const to = `far${net.number}/bench`;
  const { ca, ...hub } = optionsOf(net, row, "websocket", to);
  const trusting = ca === undefined ? hub : { ...hub, ca: certificates.ca };
  await connected(far, { options: trusting, patience: PATIENCE });
  return async () => {
    devices += 1;
    const batch = { batch: devices, count: 1, bytes: 100 };
    const options = optionsOfDevice(net, row);
    const near = net.open();
    try {
      const { first, transport } = await connected(near, {
        options,
        first: { to, batch: batch.batch },
        patience: PATIENCE,
      });
      used.add(transport);
      await near.call("close", { address: options.address });
      const { arrived, doubled, wrong } = await far.call<Tally>("arrived", { at: to, batch, patience: PATIENCE });
      if (wrong > 0) throw new Error(`${wrong} messages are not as they were sent`);
      return { value: first, samples: [first], count: 1, lost: 1 - arrived, duplicated: doubled };
    } finally {
      await near.end();
    }
  };
}

/** Has a device of its own look for its way in vain, and adds what it says to `used`. */
async function namedIn(net: Network, row: Row, used: Set<string>) {
  devices += 1;
  const near = net.open();
  try {
    const argument: ConnectArgument = { options: optionsOfDevice(net, row), patience: NAMED };
    const result = await near.call<Connected>("connect", argument);
    if (!("failed" in result)) throw new Error(`a device is through by ${result.transport}`);
    const expected: readonly (string | undefined)[] = Object.values(row.stopped ?? {});
    if (!expected.includes(result.failed)) throw new Error(`${result.failed}: ${result.message}`);
    used.add(result.failed);
    return { value: result.after, samples: [result.after], count: 1, lost: 0, duplicated: 0 };
  } finally {
    await near.end();
  }
}

function optionsOfDevice(net: Network, row: Row): ConnectArgument["options"] {
  const proxy = row.proxy?.(net);
  const options = optionsOf(net, row, undefined, `near${devices}/bench`);
  return { ...options, ...(proxy !== undefined && { proxy }) };
}

async function connected(peer: Child, argument: ConnectArgument): Promise<Extract<Connected, { first: number }>> {
  const result = await peer.call<Connected>("connect", argument);
  if ("failed" in result) throw new Error(`${result.failed}: ${result.message}`);
  return result;
}

/** A box in whose presence rates are measured. */
interface Box {
  readonly name: string;
  readonly needs: Need;
  /** Ports of engine.io and httptunnel on the internet, for boxes that must be told where requests go. */
  build(net: Network, ports: Ports): Promise<void>;
  /** The proxy that all use, if the box is one. */
  proxy?(net: Network): string;
  /** The transports that the box stops. */
  readonly stops: readonly TransportName[];
}

interface Ports {
  readonly engine: number;
  readonly httptunnel: number;
}

/** A reverse proxy sends each to its own server, by the path. */
function nginxOf(...settings: readonly string[]): Box["build"] {
  return (net, ports) => {
    const to = (path: string, port: number) => `location ${path} { proxy_pass http://${net.outside.ipv4}:${port}; }`;
    return nginx(net, ...settings, to("/engine.io/", ports.engine), to("/index.html", ports.httptunnel));
  };
}

const BOXES: readonly Box[] = [
  {
    name: "squid",
    needs: NEEDS.squid,
    build: (net) => squid(net, "http_access allow all"),
    proxy: (net) => `http://${net.inside.ipv4}:3128`,
    stops: [],
  },
  { name: "nginx as it is", needs: NEEDS.nginx, build: nginxOf(), stops: ["websocket", "longlived"] },
  {
    name: "nginx that is set to pass streams and WebSockets",
    needs: NEEDS.nginx,
    build: nginxOf(
      "client_max_body_size 0;",
      "proxy_http_version 1.1;",
      "proxy_request_buffering off;",
      "proxy_buffering off;",
      "proxy_set_header Upgrade $http_upgrade;",
      "proxy_set_header Connection $http_connection;",
    ),
    stops: [],
  },
];

const FAR = new URL("far.ts", import.meta.url);
const NEAR = new URL("near.ts", import.meta.url);

/** The edge as the site and the internet itself reach it. */
const EDGE = "http://edge.test";
const DEVICE = { edge: EDGE, allowPlain: true } as const;

/** The device on the internet. */
const MESSENGER = "far/bench";

/** Ports of httptunnel: of its servers, one for each box, and of its client at the site. */
const FIRST_HTTPTUNNEL = 8800;
const HTTPTUNNEL_ENTRANCE = 8888;

/** What the name of a way says that is tried in vain. */
const STOPPED = " (stopped by the box)";

const LOAD: Load = { size: 400e6, milliseconds: 1_500 };

/** How long a round may take, in ms: what a box stops is noticed by then, and what it slows down is still a figure. */
const ROUND_PATIENCE = 15_000;

/**
 * How often a round that fails is begun, for ours and for peers. A box may end connections until the bodies of ours are
 * no longer 4 MiB, but 128 KiB, which takes five of them.
 */
const ATTEMPTS = 6;

const NAMES = {
  longlived: "LongLived",
  keepalive: "KeepAlive",
  polling: "Polling",
  websocket: "WebSocket",
} as const satisfies Partial<Record<TransportName, string>>;
type Measured = keyof typeof NAMES;
const MEASURED = Object.keys(NAMES) as Measured[];
/** A WebSocket ends at the edge. */
const PASSED = ["longlived", "keepalive", "polling"] as const;
const ENGINE = {
  polling: "engine.io 6.6.12, polling",
  websocket: "engine.io 6.6.12, websocket",
} as const satisfies Record<EngineTransport, string>;
const HTTPTUNNEL = "httptunnel 3.3";
const ENGINE_TRANSPORTS = Object.keys(ENGINE) as EngineTransport[];
const PEERS: readonly string[] = [...Object.values(ENGINE), HTTPTUNNEL];

/** A box with all that is on both sides of it. */
interface Place {
  readonly box: Box;
  readonly near: Child;
  readonly far: Child;
  /** `host:port` of the far side, as the edge reaches it. */
  readonly relay: string;
  readonly engine: { readonly url: string; readonly missing: string | undefined };
  /** The port at the site where httptunnel carries TCP to the far side. */
  readonly httptunnel: { readonly port: number; readonly missing: string | undefined };
}

async function* rates(internet: Internet, quick: boolean): AsyncGenerator<Section> {
  const missing = await installPackages();
  const far = new Child(FAR, (...command) => internet.machine.command(...WITHOUT_PROXIES, ...command));
  try {
    const port = await far.call<number>("listen");
    const relay = `127.0.0.1:${port}`;
    const edge = ["edge", "--dev", "--host", "::", "--port", "80", "--name", "edge.test", "--relay-allow", relay];
    await internet.machine.start([process.execPath, COMMAND, ...edge, "--json"]).line(/"listening"/);
    await far.call("deviceBlocks", { ...DEVICE, address: MESSENGER, transport: "websocket" } satisfies DeviceOptions);
    const engine = missing === undefined ? await far.call<number>("engineBlocks") : 0;
    for (const box of BOXES) {
      const why = reasonOf(whyNot([box.needs], true));
      if (why === undefined) yield* ratesThrough(box, { internet, far, port, engine, missing, quick });
      else yield skippedSection(`rates through ${box.name}`, why);
    }
  } finally {
    await far.end();
  }
}

interface Surroundings {
  readonly internet: Internet;
  readonly far: Child;
  /** Port of the far side. */
  readonly port: number;
  /** Port of engine.io's server. */
  readonly engine: number;
  /** Why the peers from npm are missing. */
  readonly missing: string | undefined;
  readonly quick: boolean;
}

async function* ratesThrough(
  box: Box,
  { internet, far, port, engine, missing, quick }: Surroundings,
): AsyncGenerator<Section> {
  const net = internet.network();
  const ports = { engine, httptunnel: FIRST_HTTPTUNNEL + net.number };
  await box.build(net, ports);
  const proxy = box.proxy?.(net);
  const near = new Child(NEAR, (...command) =>
    net.site.command(...WITHOUT_PROXIES, ...(proxy === undefined ? [] : [`HTTP_PROXY=${proxy}`]), ...command),
  );
  try {
    const place: Place = {
      box,
      near,
      far,
      relay: `127.0.0.1:${port}`,
      engine: { url: proxy === undefined ? EDGE : `http://edge.test:${engine}`, missing },
      httptunnel: await startHttptunnel(net, ports.httptunnel, port, proxy),
    };
    const persistence = (name: string) => ({
      patience: ROUND_PATIENCE,
      attempts: name.endsWith(STOPPED) ? 1 : ATTEMPTS,
    });
    for (const down of [false, true]) {
      const contenders = waysOf(place).map((way) =>
        transfer({ near, far, down }, quick ? { ...way, load: QUICK } : way, persistence(way.name)),
      );
      yield sectionOf(box, down, await alternate(contenders, quick ? 2 : 5));
    }
    yield tripsSection(box, await alternate(tripsOf(place), quick ? 2 : 5));
  } finally {
    await near.end();
  }
}

/** Starts httptunnel's server on the internet and its client at the site. */
async function startHttptunnel(
  { internet, site, inside, outside }: Network,
  middle: number,
  target: number,
  proxy: string | undefined,
): Promise<Place["httptunnel"]> {
  const programs = await httptunnelPrograms();
  if (typeof programs === "string") return { port: 0, missing: programs };
  internet.machine.start([programs.hts, "-w", "-F", `127.0.0.1:${target}`, `0.0.0.0:${middle}`], { all: true });
  const entrance = String(HTTPTUNNEL_ENTRANCE);
  // A reverse proxy is asked on its own port.
  const [through, to] =
    proxy === undefined ? [[], `${inside.ipv4}:80`] : [["-P", new URL(proxy).host], `${outside.ipv4}:${middle}`];
  site.start([programs.htc, "-w", ...through, "-F", entrance, to], { all: true });
  await site.listening(HTTPTUNNEL_ENTRANCE);
  return { port: HTTPTUNNEL_ENTRANCE, missing: undefined };
}

function waysOf({ box, relay, engine, httptunnel }: Place): NamedWay[] {
  const load = LOAD;
  const stops = (transport: Measured) => (box.stops.includes(transport) ? STOPPED : "");
  const passed = PASSED.map((transport): NamedWay => {
    const options = { transport, relay, edge: EDGE, contentLength: MAX_CONTENT_LENGTH };
    const way = { kind: "transport", options } as const;
    const name = `${NAMES[transport]}${stops(transport)}`;
    return { name, way, load, against: PEERS };
  });
  const messages = MEASURED.map((transport): NamedWay => {
    const way = { kind: "device", options: { ...DEVICE, transport }, to: MESSENGER } as const;
    return { name: `${NAMES[transport]}, messages${stops(transport)}`, way, load, against: Object.values(ENGINE) };
  });
  const peer = (name: string, way: Way, missing: string | undefined): NamedWay => ({
    name,
    way,
    load,
    against: [],
    ...(missing !== undefined && { skipped: missing }),
  });
  return [
    ...passed,
    ...messages,
    ...ENGINE_TRANSPORTS.map((transport) =>
      peer(ENGINE[transport], { kind: "engine", url: engine.url, transport }, engine.missing),
    ),
    peer(HTTPTUNNEL, { kind: "tcp", port: httptunnel.port }, httptunnel.missing),
  ];
}

/** Round trips of a message of 100 octets, one at a time, on one connection of each. */
function tripsOf({ box, near, relay, engine, httptunnel }: Place): Contender[] {
  const echo = (name: string, way: Way, missing?: string) =>
    trips(near, name, (id) => near.call("openEcho", { way, id }), missing);
  return [
    ...PASSED.map((transport) => {
      const name = `${NAMES[transport]}${box.stops.includes(transport) ? STOPPED : ""}`;
      const options = { transport, relay, edge: EDGE, contentLength: MAX_CONTENT_LENGTH };
      return { ...echo(name, { kind: "transport", options }), against: PEERS };
    }),
    ...ENGINE_TRANSPORTS.map((transport) =>
      trips(
        near,
        ENGINE[transport],
        (id) => near.call("openEngine", { url: engine.url, transport, id }),
        engine.missing,
      ),
    ),
    echo(HTTPTUNNEL, { kind: "tcp", port: httptunnel.port }, httptunnel.missing),
  ];
}

/** Counts the connections for round trips. */
let connections = 0;

function trips(
  near: Child,
  name: string,
  open: (id: number) => Promise<unknown>,
  skipped: string | undefined,
): Contender {
  connections += 1;
  const id = connections;
  let opening: Promise<unknown> | undefined;
  return {
    name,
    against: [],
    skipped,
    async round(warm) {
      opening ??= open(id);
      await within(ROUND_PATIENCE, opening);
      const asked = { id, count: warm ? 20 : 100, milliseconds: LOAD.milliseconds };
      const { samples, lost, duplicated } = await within(ROUND_PATIENCE, near.call<Trips>("ping", asked));
      if (samples.length === 0) throw new Error("no message came back");
      return { value: quantile(samples, 0.5), samples, count: samples.length, lost, duplicated };
    },
  };
}

function tripsSection(box: Box, figures: readonly Figure[]): Section {
  const ours = figures.filter(({ name }) => !PEERS.includes(name) && !name.endsWith(STOPPED));
  return {
    name: `round trip of 100 octets through ${box.name}`,
    unit: "ms",
    counted: "samples",
    figures,
    goals: [intact(ours)],
    notes: ["Ours go to an echo behind the edge; engine.io's server answers itself."],
  };
}

function sectionOf(box: Box, down: boolean, figures: readonly Figure[]): Section {
  const ours = figures.filter(({ name }) => !PEERS.includes(name));
  const isStopped = ({ name }: Figure) => name.endsWith(STOPPED);
  const best = (some: readonly Figure[]) => Math.max(0, ...some.map(({ median }) => median ?? 0));
  const ahead = (text: string, own: number, other: number): Goal[] =>
    other === 0 ? [] : [{ text: `${text} (${short(own)} against ${short(other)} MB/s)`, met: own > other }];
  const rate = (name: string) => figureOf(figures, name)?.median ?? 0;
  const peers = figures.filter(({ name }) => PEERS.includes(name));
  return {
    name: `rates through ${box.name}, ${down ? "down: internet -> site" : "up: site -> internet"}`,
    unit: "MB/s",
    counted: "64 KiB blocks",
    figures,
    goals: [
      intact(ours.filter((figure) => !isStopped(figure))),
      atOnce(ours.filter((figure) => !isStopped(figure))),
      ...ahead("the fastest way of a device is ahead of the fastest peer", best(ours), best(peers)),
      ...ahead("Polling is ahead of engine.io's polling", rate(NAMES.polling), rate(ENGINE.polling)),
      ...(ours.some(isStopped)
        ? [
            {
              text: `what this box stops is reported as such`,
              met: ours.filter(isStopped).every(({ missing }) => missing !== undefined),
            },
          ]
        : []),
    ],
    notes: [
      `A round that fails is begun again, up to ${ATTEMPTS - 1} times, for ours and peers alike: "again" counts that, while warming`,
      "up and in the rounds that count.",
      "Without `messages`: octets to a relay behind the edge. `messages`: 64 KiB each, to a device; the edge stores each one.",
      "Squid 5.7 closes a connection on which 512 KiB of a request wait for the server behind it (request buffer full, also",
      "with curl): uploads by LongLived and httptunnel are cut, and KeepAlive halves its bodies, as a device does for an hour.",
      "engine.io stores nothing. httptunnel's client is a program with a TCP entrance.",
    ],
  };
}
