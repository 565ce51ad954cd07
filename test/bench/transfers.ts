/** Rounds in which blocks go one way between the near and the far side. */
import type { Child } from "../support/rpc.ts";
import { BLOCK, type Received } from "./blocks.ts";
import type { Way } from "./lines.ts";
import type { Contender, Round } from "./report.ts";

/** The size of a round: at most this many octets, for at most this long; what is then in flight still counts. */
export interface Load {
  readonly size: number;
  readonly milliseconds: number;
}

/** Enough for compilers and caches. */
const WARM: Load = { size: 50e6, milliseconds: 300 };
export const QUICK: Load = { size: 150e6, milliseconds: 700 };

/** A round that takes longer, in milliseconds, has lost something. */
const PATIENCE = 30_000;

/** A way that is measured. */
export interface NamedWay {
  readonly name: string;
  readonly way: Way | undefined;
  readonly load: Load;
  readonly against: readonly string[];
  readonly skipped?: string;
}

/** The two sides, and whether blocks go from the far one to the near one. */
export interface Sides {
  readonly near: Child;
  readonly far: Child;
  readonly down: boolean;
}

let lastId = 0;

export interface Persistence {
  /** How long a round may take, in milliseconds. */
  readonly patience?: number;
  /** How often a round that fails is begun. Default 1. */
  readonly attempts?: number;
}

export function transfer(
  { near, far, down }: Sides,
  { name, way, load, against, skipped }: NamedWay,
  { patience = PATIENCE, attempts = 1 }: Persistence = {},
): Contender {
  const once = async ({ size, milliseconds }: Load): Promise<Round> => {
    lastId += 1;
    const id = lastId;
    const argument = { way, id, size, milliseconds };
    const measured = down
      ? near.call<Received>("down", argument).then((received) => roundOf(received))
      : Promise.all([far.call<Received>("received", id), near.call<number>("up", argument)]).then(
          async ([received, written]) => {
            const round = roundOf(received, written);
            // What was in flight when a connection ended is not lost by a way that kept it: the way has failed.
            const why = round.lost === 0 ? undefined : await near.call<string | undefined>("lost", id);
            if (why !== undefined) throw new Error(why);
            return round;
          },
        );
    return within(patience, measured).finally(() => near.call("close", id));
  };
  return {
    name,
    against,
    skipped,
    attempts,
    round: (warm) => once(warm ? WARM : load),
  };
}

/** Ways that are measured at the same time, as one. */
export interface NamedWays extends Omit<NamedWay, "way"> {
  readonly ways: readonly Way[];
}

/**
 * Rounds in which several connections at a time carry blocks up, and share the size.
 *
 * @param options.warm size of a round that does not count
 * @param options.patience milliseconds that a round may take
 */
export function transferAtOnce(
  { near, far }: Pick<Sides, "near" | "far">,
  { name, ways, load, against, skipped }: NamedWays,
  { warm: warming, patience }: { readonly warm: Load; readonly patience: number },
): Contender {
  const once = async ({ size, milliseconds }: Load): Promise<Round> => {
    const lines = ways.map((way) => {
      lastId += 1;
      return { way, id: lastId, size: size / ways.length, milliseconds };
    });
    const measured = lines.map(async (line) => {
      const both = [far.call<Received>("received", line.id), near.call<number>("up", line)] as const;
      const [received, written] = await Promise.all(both);
      return { received, round: roundOf(received, written) };
    });
    try {
      const all = await within(patience, Promise.all(measured));
      const sum = (of: (one: (typeof all)[number]) => number) => all.reduce((total, one) => total + of(one), 0);
      const began = Math.min(...all.map(({ received }) => received.began));
      const ended = Math.max(...all.map(({ received }) => received.ended));
      return {
        value: sum(({ received }) => received.octets - received.first) / (ended - began) / 1000,
        count: sum(({ round }) => round.count),
        lost: sum(({ round }) => round.lost),
        duplicated: sum(({ round }) => round.duplicated),
      };
    } finally {
      await Promise.all(lines.map(({ id }) => near.call("close", id)));
    }
  };
  return { name, against, skipped, round: (warm) => once(warm ? warming : load) };
}

/** Written blocks that the receiver did not see are lost, too. */
function roundOf(received: Received, written?: number): Round {
  const { rate, octets, blocks, lost, duplicated, whole } = received;
  const tail = written === undefined ? (whole ? 0 : 1) : Math.max(0, written - blocks - lost + duplicated);
  return { value: rate, count: Math.round(octets / BLOCK), lost: lost + tail, duplicated };
}

/** Rejects if a promise is not settled after so many milliseconds. */
export function within<T>(patience: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${patience / 1000} s`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
