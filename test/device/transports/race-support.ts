/** Runs a race against scripted ways, on a clock of its own. */
import { Race, type RaceCommand, type RaceOptions, type Runner } from "../../../src/device/transports/race.ts";

/** Milliseconds until a step of a way is done, or how it goes wrong. */
export type Step = number | "never" | "fails";

/** How a way behaves: each step begins when the one before is done, the last with its Connect. */
export interface Behaviour extends Runner {
  readonly connects: Step;
  readonly echoesAfter: Step;
  readonly answers: Step;
}

export interface Outcome {
  /** The way that won; undefined if all failed. */
  readonly won: string | undefined;
  /** When the race was over. */
  readonly at: number;
  /** When it was said that nothing has come back. */
  readonly slowAt: number | undefined;
  readonly started: readonly string[];
  readonly closed: readonly string[];
  readonly failed: readonly string[];
  /** The most ways that were open at once, and those that said Connect at once. */
  readonly mostOpen: number;
  readonly mostConnecting: number;
}

/** A way whose steps all take this long. */
export function way(id: string, step: Step, changes: Partial<Behaviour> = {}): Behaviour {
  return { id, path: id, echoes: true, connects: step, echoesAfter: step, answers: step, ...changes };
}

export function run(behaviours: readonly Behaviour[], options: Partial<RaceOptions> = {}): Outcome {
  const race = new Race<string>({ runners: behaviours, now: 0, ...options });
  const [started, closed]: [string[], string[]] = [[], []];
  const [open, connecting] = [new Set<string>(), new Set<string>()];
  const [most, events]: [{ open: number; connecting: number }, { at: number; happen: () => RaceCommand[] }[]] = [
    { open: 0, connecting: 0 },
    [],
  ];
  let [now, won, slowAt]: [number, string | undefined, number | undefined] = [0, undefined, undefined];
  const find = (id: string) => {
    const found = behaviours.find((behaviour) => behaviour.id === id);
    if (found === undefined) throw new Error(`unknown way ${id}`);
    return found;
  };
  const later = (id: string, step: Step, happen: () => RaceCommand[]) => {
    if (step === "never") return;
    const at = now + (step === "fails" ? 5 : step);
    const failing = () => {
      open.delete(id);
      connecting.delete(id);
      return race.failed(id, "failed", now);
    };
    events.push({ at, happen: () => (open.has(id) ? (step === "fails" ? failing() : happen()) : []) });
  };
  const obey = (commands: readonly RaceCommand[]): void => {
    for (const command of commands) {
      if (command.type === "slow") slowAt = now;
      if (command.type === "lost" || command.type === "slow") continue;
      const { id } = command;
      const { connects, echoesAfter, answers } = find(id);
      if (command.type === "start") {
        if (started.includes(id)) throw new Error(`${id} started twice`);
        started.push(id);
        open.add(id);
        later(id, connects, () => {
          later(id, echoesAfter, () => race.echoed(id, now));
          return race.connected(id, now);
        });
      } else if (command.type === "connect") {
        connecting.add(id);
        later(id, answers, () => race.proven(id));
        obey(race.connecting(id, now));
      } else if (command.type === "close") {
        if (!open.delete(id)) throw new Error(`${id} closed, but not open`);
        connecting.delete(id);
        closed.push(id);
      } else won = id;
    }
    most.open = Math.max(most.open, open.size);
    most.connecting = Math.max(most.connecting, connecting.size);
  };
  obey(race.advance(0));
  for (let steps = 0; !race.isOver; steps += 1) {
    if (steps > 10_000) throw new Error("the race does not end");
    events.sort((a, b) => a.at - b.at);
    const [next] = events;
    if (next !== undefined && next.at <= race.deadline) {
      events.shift();
      now = Math.max(now, next.at);
      obey(next.happen());
    } else {
      if (race.deadline === Number.POSITIVE_INFINITY) throw new Error("the race hangs");
      now = Math.max(now, race.deadline);
      obey(race.advance(now));
    }
  }
  const left = [...open].filter((id) => id !== won);
  if (left.length > 0) throw new Error(`left open: ${left.join(", ")}`);
  return {
    won,
    at: now,
    slowAt,
    started,
    closed,
    failed: race.failures.map(({ id }) => id),
    mostOpen: most.open,
    mostConnecting: most.connecting,
  };
}
