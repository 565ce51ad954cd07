/** `grooveway top`: shows what an edge does, again and again. */
import { askEdge } from "../../device/transports/ask-edge.ts";
import { edgeDialler } from "../../device/transports/edge-dialler.ts";
import { jsonLine, visible } from "../../lib/printable.ts";
import { sleep } from "../../lib/runtime/timeout.ts";
import { CommandError } from "../command-error.ts";
import { secondsIn } from "../duration.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { PROFILE_OPTION, withProfile } from "../profiles/profile-options.ts";
import { PROXY_OPTIONS, proxiesOf } from "../proxy-options.ts";
import { readAuthorities } from "../tls.ts";
import { type Readiness, type Reading, screen } from "../top/screen.ts";

/** Moves to the corner of a terminal, and clears what is below. */
const CLEAR = "\u001b[H\u001b[J";

/** An edge that is asked more often answers with what it had before. */
const LEAST_INTERVAL = 1;

export const topCommand: Command = {
  help: `Usage: grooveway top [options]

Shows what an edge does: whether it is ready, who is connected by what, messages in and out, what waits, links, drops and
refusals. A device's names are not shown; grooveway mailbox ls lists mailboxes.

  --interval T   time between two looks, such as 2s or 1m; default 2s
  --once         look once, and show totals
  --profile NAME take edge and token from this profile of grooveway login; default GROOVEWAY_PROFILE, or the profile
                 default. Its token goes to its own edges only
  --edge URL     the edge; default that of the profile, or http://127.0.0.1:8787
  --token TOKEN|@FILE
                 the edge's admin token, or a token with the scope admin or metrics; default the environment variable
                 GROOVEWAY_ADMIN_TOKEN, or GROOVEWAY_TOKEN
  --proxy URL|@FILE, --proxy-credentials FILE
                 connect through a proxy, as send and recv do
  --ca FILE      certificate authorities to trust in addition to the system's (PEM)
  --json         print a JSON object for each look

Example: grooveway top --edge https://edge.example.com --token @metrics.token`,

  async run(args) {
    const { values, positionals } = parse("top", args, {
      ...PROFILE_OPTION,
      edge: { type: "string" },
      ca: { type: "string" },
      ...PROXY_OPTIONS,
      token: { type: "string" },
      interval: { type: "string", default: "2s" },
      once: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (positionals.length > 0) throw unexpected("top", positionals[0]);
    const interval = secondsIn(values.interval);
    if (interval === undefined || interval < LEAST_INTERVAL) {
      throw usage("top", "--interval is not a time of at least a second, such as 2s or 1m");
    }
    const { GROOVEWAY_ADMIN_TOKEN, GROOVEWAY_TOKEN } = process.env;
    const completed = withProfile(values, { inherited: GROOVEWAY_ADMIN_TOKEN ?? GROOVEWAY_TOKEN, most: 1 });
    const { token } = completed;
    if (token === undefined) throw usage("top", "the token is missing: give --token, or a profile of grooveway login");
    const given = completed.edge ?? "http://127.0.0.1:8787";
    if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol)) {
      throw usage("top", `--edge ${given} is not a URL such as https://edge.example.com`);
    }
    const edge = new URL(given);
    const ca = completed.ca === undefined ? undefined : readAuthorities(completed.ca);
    const dialler = edgeDialler(edge.href, proxiesOf("top", values), ca);
    const ask = async <T>(path: string, expects: (value: unknown) => value is T): Promise<T> => {
      const answer = await askEdge({ edge, ca, dialler, token: token(), path, expects });
      if (answer.ok) return answer.value as T;
      throw new CommandError("Refused", `${`${answer.detail} ${answer.cure}`.trim()} [${answer.code}]`);
    };

    const over = new AbortController();
    if (!values.once) void untilInterrupted().then(() => over.abort());
    let before: { readonly reading: Reading; readonly at: number } | undefined;
    while (!over.signal.aborted) {
      const { readiness, ...now } = await ask("/admin/metrics", isAnswer);
      const at = performance.now();
      const view = { edge: edge.href.replace(/\/$/, ""), readiness, now };
      const since = before && { reading: before.reading, seconds: (at - before.at) / 1000 };
      if (values.json) console.log(jsonLine({ readiness, ...now }));
      else {
        const lines = screen({ ...view, before: since }).map(visible);
        console.log(`${process.stdout.isTTY && !values.once ? CLEAR : ""}${lines.join("\n")}`);
      }
      if (values.once) break;
      before = { reading: now, at };
      await sleep(interval * 1000, over.signal);
    }
    return 0;
  },
};

type Answer = Reading & { readonly readiness: Readiness };

/** What answers without TLS may be anything. */
function isAnswer(value: unknown): value is Answer {
  const { totals, gauges, readiness } = (value ?? {}) as Partial<Answer>;
  const numbers = (of: unknown) =>
    typeof of === "object" && of !== null && Object.values(of).every((one) => typeof one === "number");
  const notes = (of: unknown) =>
    Array.isArray(of) && of.every((one) => ["part", "code", "cure"].every((name) => typeof one?.[name] === "string"));
  const isReady = typeof readiness?.ready === "boolean" && notes(readiness.problems) && notes(readiness.warnings);
  const isGauges = typeof gauges === "object" && gauges !== null && Object.values(gauges).every(numbers);
  return isReady && isGauges && numbers(totals);
}
