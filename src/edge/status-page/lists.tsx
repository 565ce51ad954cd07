/**
 * The pages that list mailboxes and connections.
 *
 * @module
 */
import type { ObjectQuery, ObjectRow } from "../rpc/collector-rpc.ts";
import type { MailboxStatus } from "../rpc/mailbox-rpc.ts";
import { Ago, Figure, Peer, Search, Table } from "./layout.tsx";
import { RULE_SHOWN } from "./limits.ts";
import { Mark, Waiting } from "./overview.tsx";

interface ListProps {
  readonly now: number;
  /** What was searched for. */
  readonly contains: string;
  /** Query of the next page; undefined on the last. */
  readonly next: Readonly<Record<string, string>> | undefined;
  /** Whether this page is the first. */
  readonly isFirst: boolean;
}

type Order = ObjectQuery["order"];

/** Mailboxes in which something waits, the most first. */
export function WaitingPage({
  now,
  contains,
  order,
  rows,
  next,
  isFirst,
}: ListProps & { readonly order: Order; readonly rows: readonly ObjectRow[] }) {
  const column = (text: string, by: Order) => {
    const query = new URLSearchParams({ ...(contains !== "" && { q: contains }), sort: by });
    return { text, href: `mailboxes?${query}`, sorted: by === order };
  };
  return (
    <>
      <Search action="mailboxes" contains={contains} label="Name contains" fields={{ sort: order }} />
      <Filter contains={contains} all={false} />
      {rows.length === 0 ? (
        <p>{contains === "" ? "Nothing waits in any mailbox." : "Nothing waits in a mailbox of such a name."}</p>
      ) : (
        <Waiting
          rows={rows}
          now={now}
          head={["Mailbox", column("#Messages", "count"), column("#Bytes", "octets"), column("Oldest", "age")]}
        />
      )}
      <Pages
        path="mailboxes"
        next={next}
        isFirst={isFirst}
        first={{ ...(contains !== "" && { q: contains }), sort: order }}
      />
    </>
  );
}

/** All mailboxes, by name. */
export function AllMailboxesPage({
  now,
  contains,
  rows,
  next,
  isFirst,
}: ListProps & { readonly rows: readonly MailboxStatus[] }) {
  return (
    <>
      <Search action="mailboxes" contains={contains} label="Name contains" fields={{ all: "1" }} />
      <Filter contains={contains} all={true} />
      {rows.length === 0 ? (
        <p>{next === undefined ? "There is no such mailbox." : "None among the names looked at so far: search on."}</p>
      ) : (
        <Table caption="All mailboxes" head={["Mailbox", "#Messages", "#Bytes", "Oldest", "Connected", "Senders"]}>
          {rows.map(({ peer, messages, octets, oldest, consumer, locked, senders, reason }) => (
            <tr>
              <th scope="row">
                <Peer url={peer} />
              </th>
              {reason !== undefined ? (
                <td colspan={5}>
                  <Mark state="bad">{`cannot be read: ${reason}`}</Mark>
                </td>
              ) : (
                <>
                  <td class="number">
                    <Figure series={`messages of ${peer}`} value={messages} />
                  </td>
                  <td class="number">
                    <Figure series={`bytes of ${peer}`} value={octets} as="size" />
                  </td>
                  <td>
                    <Ago at={oldest} now={now} />
                  </td>
                  <td>{consumer === undefined ? "–" : "yes"}</td>
                  <td>{locked ? <Mark state="bad">locked</Mark> : <bdi>{shortened(senders)}</bdi>}</td>
                </>
              )}
            </tr>
          ))}
        </Table>
      )}
      <Pages
        path="mailboxes"
        next={next}
        isFirst={isFirst}
        first={{ ...(contains !== "" && { q: contains }), all: "1" }}
      />
    </>
  );
}

/** Connections, the oldest first. */
export function ConnectionsPage({
  now,
  contains,
  rows,
  next,
  isFirst,
}: ListProps & { readonly rows: readonly ObjectRow[] }) {
  return (
    <>
      <Search action="connections" contains={contains} label="Device, relay or transport contains" />
      {rows.length === 0 ? (
        <p>{contains === "" ? "Nobody is connected." : "No such connection."}</p>
      ) : (
        <Table caption="Connections" head={["Device or relay", "Transport", "Connected", "Connection"]}>
          {rows.map(({ name, label, oldest, who }) => (
            <tr>
              <th scope="row">{who === "" ? "–" : <Peer url={who} />}</th>
              <td>{label}</td>
              <td>
                <Ago at={oldest} now={now} />
              </td>
              <td>
                <code>{name}</code>
              </td>
            </tr>
          ))}
        </Table>
      )}
      <Pages path="connections" next={next} isFirst={isFirst} first={contains === "" ? {} : { q: contains }} />
    </>
  );
}

function Filter({ contains, all }: { readonly contains: string; readonly all: boolean }) {
  const query = (more: Readonly<Record<string, string>>) =>
    `mailboxes?${new URLSearchParams({ ...(contains !== "" && { q: contains }), ...more })}`;
  return (
    <p class="choice">
      <a href={query({})} aria-current={all ? undefined : "true"}>
        What waits
      </a>
      <a href={query({ all: "1" })} aria-current={all ? "true" : undefined}>
        All mailboxes
      </a>
    </p>
  );
}

function Pages({
  path,
  next,
  isFirst,
  first,
}: Pick<ListProps, "next" | "isFirst"> & { readonly path: string; readonly first: Readonly<Record<string, string>> }) {
  if (next === undefined && isFirst) return null;
  return (
    <nav aria-label="Further pages" class="pages">
      {!isFirst && <a href={`${path}?${new URLSearchParams(first)}`}>First page</a>}
      {next !== undefined && (
        <a rel="next" href={`${path}?${new URLSearchParams(next)}`}>
          Next page
        </a>
      )}
    </nav>
  );
}

/** The beginning of a rule: all of it is on the page of its mailbox. */
function shortened(senders: string): string {
  return senders.length > RULE_SHOWN ? `${senders.slice(0, RULE_SHOWN)}…` : senders;
}
