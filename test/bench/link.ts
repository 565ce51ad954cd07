/** The cost of a link: messages from an edge to an origin relay and back, compared with the engine alone over TCP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "../support/rpc.ts";
import { startEdge } from "./edges.ts";
import type { Forwarding } from "./forwarder.ts";
import { alternate, type Contender, figureOf, type Goal, intact, quantile, type Section, short } from "./report.ts";
import type { Throw, Thrown } from "./thrower.ts";

const BARE = "floor: engine to engine over TCP";
/** As many SSTP endpoints as the link has, so that the cost added by the edge is visible. */
const FORWARDED = "floor: engine to engine to engine over TCP";
/** The same, with what it passes on as durable meanwhile as in the edge. */
const KEPT = "floor: the same, and SQLite with fsync on both ways";
const LINK = "edge to relay to edge, over one link";
const VOLATILE = "the same with flag D: nothing is stored";
const WINDOW = 2000;

export async function link(quick: boolean): Promise<Section[]> {
  const bouncer = new Child(new URL("bouncer.ts", import.meta.url));
  const thrower = new Child(new URL("thrower.ts", import.meta.url));
  const forwarder = new Child(new URL("forwarder.ts", import.meta.url));
  const keeper = new Child(new URL("forwarder.ts", import.meta.url));
  const port = await bouncer.call<number>("listen");
  const relay = `127.0.0.1:${port}`;
  const state = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  const edge = await startEdge([relay], { state });
  try {
    const url = `http://127.0.0.1:${edge.port}`;
    const between = `127.0.0.1:${await forwarder.call<number>("listen", { relay } satisfies Forwarding)}`;
    const keeping: Forwarding = { relay, folder: mkdtempSync(join(state, "forwarder-")) };
    const kept = `127.0.0.1:${await keeper.call<number>("listen", keeping)}`;
    await thrower.call("open", { id: 1, transport: "tcp", relay } satisfies Throw);
    await thrower.call("open", { id: 2, transport: "websocket", edge: url, relay } satisfies Throw);
    const hot: Throw = { id: 3, transport: "websocket", edge: url, relay, volatile: true };
    await thrower.call("open", hot);
    await thrower.call("open", { id: 4, transport: "tcp", relay, forwarder: between } satisfies Throw);
    await thrower.call("open", { id: 5, transport: "tcp", relay, forwarder: kept } satisfies Throw);
    const contender = (name: string, id: number, against: string[], window: number, counts: number): Contender => ({
      name,
      against,
      round: async (warm) => {
        const count = warm ? Math.min(counts, 500) : counts;
        const { seconds, returned, lost, duplicated, samples } = await thrower.call<Thrown>("throw", {
          id,
          count,
          window,
        });
        const value = window === 1 ? quantile(samples, 0.5) : returned / seconds;
        return { value, count: returned, lost, duplicated, ...(window === 1 && { samples }) };
      },
    });
    const rounds = quick ? 3 : 6;
    const rates = await alternate(
      [
        contender(BARE, 1, [], WINDOW, quick ? 50_000 : 100_000),
        contender(FORWARDED, 4, [BARE], WINDOW, quick ? 50_000 : 100_000),
        contender(KEPT, 5, [BARE], WINDOW, quick ? 20_000 : 50_000),
        contender(LINK, 2, [BARE, KEPT], WINDOW, quick ? 20_000 : 50_000),
        contender(VOLATILE, 3, [BARE, FORWARDED], WINDOW, quick ? 20_000 : 50_000),
      ],
      rounds,
    );
    const trips = await alternate(
      [
        contender(BARE, 1, [], 1, 300),
        contender(LINK, 2, [BARE], 1, quick ? 150 : 300),
        contender(VOLATILE, 3, [BARE], 1, quick ? 150 : 300),
      ],
      rounds,
    );
    const ratio = (name: string, other: string) =>
      figureOf(rates, name)?.against.find((one) => one.name === other)?.ratio ?? 0;
    const added = (figureOf(trips, LINK)?.median ?? Number.POSITIVE_INFINITY) - (figureOf(trips, BARE)?.median ?? 0);
    return [
      {
        name: `messages of 100 octets to a relay and back to the sender, ${WINDOW} under way`,
        unit: "messages/s",
        counted: "messages",
        figures: rates,
        goals: [
          intact(rates),
          // Each compared with the engine alone on the same path, with the same durability.
          atLeastHalf("link", ratio(LINK, KEPT), ratio(LINK, BARE)),
          atLeastHalf("link with nothing stored", ratio(VOLATILE, FORWARDED), ratio(VOLATILE, BARE)),
        ],
        notes: [
          "The relay is the engine alone, which stores nothing. Without flag D each message by the link is made durable twice",
          "at the edge: in the relay's mailbox on its way there, and in the device's on its way back.",
          "Engine to engine to engine: a forwarder in the place of the edge, which ends the device's connection and has one of",
          "its own to the relay. What it reaches of the direct way is the most that anything in that place can: the direct way",
          "has half as many ends. The one with SQLite writes what has come together as one row, acknowledges it when it is on",
          "disk, and removes it when the other side has it; it knows no ids, quotas or recipients.",
        ],
      },
      {
        name: "round trip of one message of 100 octets to a relay and back to the sender",
        unit: "ms",
        counted: "samples",
        figures: trips,
        goals: [
          intact(trips),
          { text: `link adds <= 3 ms at p50 each way (${short(added / 2)})`, met: added / 2 <= 3 },
        ],
        notes: ["The way by the edge holds two commits to disk each round."],
      },
    ];
  } finally {
    await thrower.end();
    await forwarder.end();
    await keeper.end();
    await bouncer.end();
    await edge.close();
    rmSync(state, { recursive: true, force: true });
  }
}

function atLeastHalf(what: string, ratio: number, direct: number): Goal {
  const text = `${what} >= 0.5 of the engine alone on the same way, as durable (${short(ratio)}; of the direct way ${short(direct)})`;
  return { text, met: ratio >= 0.5 };
}
