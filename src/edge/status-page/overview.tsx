/**
 * The first page: whether all is well, who is connected, what waits, and what was counted.
 *
 * @module
 */
import type { Readiness, Unready } from "../http/ready.ts";
import type { Reading } from "../metrics/exposition.ts";
import { COUNTERS, type CounterKey, ENCAPSULATIONS, LINK_STATES, seriesId } from "../metrics/families.ts";
import type { HistoryInterval, ObjectRow } from "../rpc/collector-rpc.ts";
import type { LinkStatus } from "../rpc/link-rpc.ts";
import { Ago, Figure, Peer, Table, Time } from "./layout.tsx";
import { countedSince, PLOTS, type PlotName } from "./plots.ts";
import { countText } from "./text.ts";

/** A link, with what the operator does about it if it has failed. */
export interface LinkRow {
  readonly relay: string;
  /** Undefined if its object has not answered. */
  readonly status: LinkStatus | undefined;
  readonly cure: string | undefined;
}

export interface OverviewProps {
  readonly now: number;
  readonly readiness: Readiness;
  readonly reading: Reading;
  readonly history: readonly HistoryInterval[];
  readonly mailboxes: readonly ObjectRow[];
  readonly links: readonly LinkRow[];
}

const HOUR = 3_600_000;

const PLOT_TITLES: Readonly<Record<PlotName, string>> = {
  messages: "Messages",
  bytes: "Throughput",
  drops: "Messages dropped, in two minutes",
  refusals: "Requests refused, in two minutes",
};

export function Overview({ now, readiness, reading, history, mailboxes, links }: OverviewProps) {
  const { totals, gauges } = reading;
  const hour = countedSince(history, now - HOUR);
  const day = countedSince(history, now - 24 * HOUR);
  const gauge = (key: keyof Reading["gauges"], value = "") => gauges[key][value] ?? 0;
  const open = ENCAPSULATIONS.reduce((sum, value) => sum + gauge("connections", value), 0);
  return (
    <>
      <Verdict readiness={readiness} now={now} />
      <section class="tiles" aria-label="At present">
        <div>
          <h2>Connected</h2>
          <p class="big">
            <Figure series="connections" value={open} />
          </p>
          <p>
            <Figure series="halfOpen" value={gauge("halfOpen")} /> half-open
          </p>
        </div>
        <div>
          <h2>Waiting</h2>
          <p class="big">
            <Figure series="waitingMessages" value={gauge("waitingMessages")} />
          </p>
          <p>
            <Figure series="waitingBytes" value={gauge("waitingBytes")} as="size" /> in{" "}
            <Figure series="waitingMailboxes" value={gauge("waitingMailboxes")} /> mailboxes
          </p>
          <p>
            oldest <Figure series="oldestWaiting" value={gauge("oldestWaiting")} as="span" />
          </p>
        </div>
        <div>
          <h2>Last hour</h2>
          <p class="big">
            <LastHour counts={hour} of="messagesDelivered" />
          </p>
          <p>
            messages delivered, <LastHour counts={hour} of="messagesReceived" /> received
          </p>
          <p>
            <LastHour counts={hour} of="messagesDropped" /> dropped, <LastHour counts={hour} of="requestsRefused" />{" "}
            requests refused
          </p>
        </div>
        <div>
          <h2>Links</h2>
          <p class="big">
            <Figure series="links connected" value={gauge("links", "connected")} />
          </p>
          <p>
            connected, <Figure series="links failed" value={gauge("links", "failed")} /> failed
          </p>
        </div>
      </section>
      <section class="plots" aria-label="The last hours">
        {PLOTS.map((name) => (
          <figure data-plot={name}>
            <figcaption>{PLOT_TITLES[name]}</figcaption>
            <div class="plot" role="img" aria-label={`Plot of ${PLOT_TITLES[name]}; the tables below have the numbers`}>
              <noscript>Plots need JavaScript. The tables below have the numbers.</noscript>
            </div>
          </figure>
        ))}
      </section>
      <div class="columns">
        <Table caption="Connections by transport" head={["Transport", "#Now", "#Opened in all"]}>
          {ENCAPSULATIONS.map((value) => (
            <tr>
              <th scope="row">
                <a href={`connections?${new URLSearchParams({ q: value })}`}>{value}</a>
              </th>
              <td class="number">
                <Figure series={`connections ${value}`} value={gauge("connections", value)} />
              </td>
              <td class="number">
                <Total totals={totals} of="connectionsOpened" value={value} />
              </td>
            </tr>
          ))}
        </Table>
        <Table caption="Messages and streams" head={["", "#Received", "#Delivered"]}>
          {(["stored", "passed"] as const).map((value) => {
            const name = value === "stored" ? "Stored" : "Passed on at once";
            return (
              <>
                <Volume
                  name={name}
                  totals={totals}
                  received={["messagesReceived", value]}
                  delivered={["messagesDelivered", value]}
                />
                <Volume
                  name={`${name}, bytes`}
                  totals={totals}
                  as="size"
                  received={["bytesReceived", value]}
                  delivered={["bytesDelivered", value]}
                />
              </>
            );
          })}
          <Volume name="Plain streams" totals={totals} received={["plainStreamAppends", ""]} />
          <Volume name="Plain streams, bytes" totals={totals} as="size" received={["plainStreamBytes", ""]} />
          <Volume name="Streams of devices, bytes" totals={totals} as="size" delivered={["streamBytes", ""]} />
          <Volume
            name="Passed through, bytes"
            totals={totals}
            as="size"
            received={["passedThroughBytes", "to relay"]}
            delivered={["passedThroughBytes", "from relay"]}
          />
        </Table>
        <Reasons caption="Messages dropped" of="messagesDropped" {...{ totals, hour, day }} />
        <Reasons caption="Requests refused" of="requestsRefused" {...{ totals, hour, day }} />
        <Reasons caption="Connections ended" of="connectionsClosed" {...{ totals, hour, day }} />
        <Reasons caption="Tries to link a relay" of="linkTries" {...{ totals, hour, day }} />
      </div>
      {mailboxes.length === 0 ? (
        <p>
          Nothing waits. <a href="mailboxes?all=1">All mailboxes</a>
        </p>
      ) : (
        <>
          <Waiting rows={mailboxes} now={now} head={["Mailbox", "#Messages", "#Bytes", "Oldest"]} />
          <p>
            <a href="mailboxes">All in which something waits</a> · <a href="mailboxes?all=1">All mailboxes</a>
          </p>
        </>
      )}
      {links.length === 0 ? (
        <p>There are no links to origin relays now. LINKS names relays that stay connected.</p>
      ) : (
        <Table caption="Links to origin relays" head={["Relay", "State", "Since", "By", "#Failed tries", "What to do"]}>
          {links.map(({ relay, status, cure }) => (
            <tr>
              <th scope="row">
                <Peer url={relay} />
              </th>
              <td>
                {status === undefined ? (
                  <Mark state="bad">no answer</Mark>
                ) : status.connected ? (
                  <Mark state="good">{LINK_STATES[0]}</Mark>
                ) : (
                  <Mark state={status.failures > 0 ? "bad" : "plain"}>{status.why ?? "not connected"}</Mark>
                )}
              </td>
              <td>
                <Ago at={status?.since} now={now} />
              </td>
              <td>{status?.way ?? "–"}</td>
              <td class="number">{countText(status?.failures ?? 0)}</td>
              <td>{cure ?? "–"}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

/** Is all well? */
function Verdict({ readiness, now }: { readonly readiness: Readiness; readonly now: number }) {
  const { ready, problems, warnings } = readiness;
  const state = !ready ? "bad" : warnings.length > 0 ? "warning" : "good";
  const text = { good: "All is well", warning: "The edge is ready, with a warning", bad: "The edge is not ready" }[
    state
  ];
  return (
    <section class={`verdict ${state}`} aria-label="State of the edge">
      <p>
        <strong data-ready={String(ready)}>{text}</strong>{" "}
        <span>
          as of <Time at={now} />
        </span>
      </p>
      <Notes notes={[...problems, ...warnings]} />
    </section>
  );
}

function Notes({ notes }: { readonly notes: readonly Unready[] }) {
  if (notes.length === 0) return null;
  return (
    <ul>
      {notes.map(({ part, code, detail, cure }) => (
        <li>
          <b>{part}</b>: {detail} {cure} <code>{code}</code>
        </li>
      ))}
    </ul>
  );
}

/** A state in words, and a colour that says it again. */
export function Mark({ state, children }: { readonly state: "good" | "bad" | "plain"; readonly children: string }) {
  return <span class={`mark ${state}`}>{children}</span>;
}

type Counts = Readonly<Record<string, number>>;

/** Rows of mailboxes in which something waits. */
export function Waiting({
  rows,
  now,
  head,
}: {
  readonly rows: readonly ObjectRow[];
  readonly now: number;
  readonly head: Parameters<typeof Table>[0]["head"];
}) {
  return (
    <Table caption="Mailboxes in which something waits" head={head}>
      {rows.map(({ name, count, octets, oldest }) => (
        <tr>
          <th scope="row">
            <Peer url={name} />
          </th>
          <td class="number">
            <Figure series={`messages of ${name}`} value={count} />
          </td>
          <td class="number">
            <Figure series={`bytes of ${name}`} value={octets} as="size" />
          </td>
          <td>
            <Ago at={oldest} now={now} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Total({
  totals,
  of,
  value,
  as = "count",
}: {
  readonly totals: Counts;
  readonly of: CounterKey;
  readonly value: string;
  readonly as?: "count" | "size";
}) {
  const series = seriesId(of, value);
  return <Figure series={series} value={totals[series] ?? 0} as={as} />;
}

/** A counter and the value of its label. */
type Series = readonly [of: CounterKey, value: string];

/** A row of what came in and what went out. */
function Volume({
  name,
  totals,
  received,
  delivered,
  as = "count",
}: {
  readonly name: string;
  readonly totals: Counts;
  readonly received?: Series;
  readonly delivered?: Series;
  readonly as?: "count" | "size";
}) {
  return (
    <tr>
      <th scope="row">{name}</th>
      {[received, delivered].map((series) => (
        <td class="number">
          {series === undefined ? "–" : <Total totals={totals} of={series[0]} value={series[1]} as={as} />}
        </td>
      ))}
    </tr>
  );
}

/** The values of a counter that were ever counted. */
function Reasons({
  caption,
  of,
  totals,
  hour,
  day,
}: {
  readonly caption: string;
  readonly of: CounterKey;
  readonly totals: Counts;
  readonly hour: Counts;
  readonly day: Counts;
}) {
  const values = COUNTERS[of].values.filter((value) => (totals[seriesId(of, value)] ?? 0) > 0);
  const sorted = [...values].sort(
    (one, other) => (totals[seriesId(of, other)] ?? 0) - (totals[seriesId(of, one)] ?? 0),
  );
  if (sorted.length === 0) {
    return (
      <section class="scrolls" aria-label={caption}>
        <h2>{caption}</h2>
        <p>None so far.</p>
      </section>
    );
  }
  return (
    <Table caption={caption} head={["", "#Last hour", "#Last day", "#In all"]}>
      {sorted.map((value) => (
        <tr>
          <th scope="row">{value}</th>
          <td class="number">{countText(hour[seriesId(of, value)] ?? 0)}</td>
          <td class="number">{countText(day[seriesId(of, value)] ?? 0)}</td>
          <td class="number">
            <Total totals={totals} of={of} value={value} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** What was counted of all values of a counter. */
function LastHour({ counts, of }: { readonly counts: Counts; readonly of: CounterKey }) {
  const sum = COUNTERS[of].values.reduce((all: number, value) => all + (counts[seriesId(of, value)] ?? 0), 0);
  return <Figure series={`lastHour ${of}`} value={sum} />;
}
