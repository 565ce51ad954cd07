/**
 * Merges the events of several runs of node:test into one stream, for a reporter: those of a file together, since they
 * tell by their order which suite they are of, and at the end one count of all.
 */
import { PassThrough } from "node:stream";
import type { run } from "node:test";

type Run = ReturnType<typeof run>;

/** An event as reporters get it. */
interface TestEvent {
  readonly type: string;
  readonly data: { readonly file?: string; readonly nesting?: number; readonly message?: string };
}

/** What each run counts at its end, as in "tests 12". */
const COUNT = /^(?<name>[a-z]+) (?<value>\d+)$/;
const DURATION = /^duration_ms (?<value>[\d.]+)$/;

/**
 * Merges runs that go on at the same time.
 *
 * @returns a stream of events in object mode, which ends after all runs
 */
export function merged(runs: readonly Run[]): PassThrough {
  const events = new PassThrough({ objectMode: true });
  const counts = new Map<string, number>();
  let longest = 0;
  let left = runs.length;

  function tell(message: string): void {
    events.write({ type: "test:diagnostic", data: { nesting: 0, message, level: "info" } });
  }

  /** Takes what is told of a whole run; false for anything else. */
  function isOfRun({ type, data }: TestEvent): boolean {
    if (data.file !== undefined) return false;
    if (type === "test:summary") return true;
    const { message = "" } = data;
    const count = type === "test:diagnostic" ? COUNT.exec(message)?.groups : undefined;
    const duration = type === "test:diagnostic" ? DURATION.exec(message)?.groups : undefined;
    if (count !== undefined) counts.set(count.name ?? "", (counts.get(count.name ?? "") ?? 0) + Number(count.value));
    if (duration !== undefined) longest = Math.max(longest, Number(duration.value));
    return count !== undefined || duration !== undefined;
  }

  for (const one of runs) {
    let ofFile: TestEvent[] = [];
    const flush = () => {
      for (const event of ofFile) events.write(event);
      ofFile = [];
    };
    one.on("data", (event: TestEvent) => {
      if (isOfRun(event)) return;
      ofFile.push(event);
      if (event.type === "test:summary") flush();
    });
    one.on("end", () => {
      // A file that could not be run has no summary.
      flush();
      left -= 1;
      if (left > 0) return;
      for (const [name, count] of counts) tell(`${name} ${count}`);
      tell(`duration_ms ${longest}`);
      events.end();
    });
  }
  return events;
}
