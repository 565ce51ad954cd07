/**
 * What all pages have: head, navigation, and the small parts that they are made of. JSX escapes every text.
 *
 * @module
 */
import { html } from "hono/html";
import type { Child } from "hono/jsx";
import { SEARCH_LENGTH } from "./limits.ts";
import { countText, peerName, sizeText, spanText } from "./text.ts";

export interface LayoutProps {
  readonly title: string;
  /** The host by which the browser knows the edge. */
  readonly host: string;
  /** Token of the form that signs out; undefined for who is not signed in. */
  readonly signOut?: string | undefined;
  /** Which of the pages of the navigation it is. */
  readonly at?: "." | "connections" | "mailboxes";
  /** Whether the page has plots or times, which a script draws, and writes in the time zone of the browser. */
  readonly scripts?: boolean;
  readonly children?: Child;
}

const PAGES = [
  [".", "Overview"],
  ["connections", "Connections"],
  ["mailboxes", "Mailboxes"],
] as const;

/** A whole document. */
export function document(props: LayoutProps) {
  return html`<!doctype html>${Layout(props)}`;
}

function Layout({ title, host, signOut, at, scripts = true, children }: LayoutProps) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{`${title} – ${host}`}</title>
        <link rel="icon" href="icon.svg" type="image/svg+xml" />
        <link rel="stylesheet" href="plots.css" />
        <link rel="stylesheet" href="status.css" />
        {scripts && <script src="plots.js" defer></script>}
        {scripts && <script src="draw-plots.js" defer></script>}
      </head>
      <body>
        <a class="skip" href="#main">
          Skip to the content
        </a>
        <header>
          <p class="brand">
            Grooveway <bdi>{host}</bdi>
          </p>
          {signOut !== undefined && (
            <>
              <nav aria-label="Pages">
                {PAGES.map(([path, name]) => (
                  <a href={path === "." ? "./" : path} aria-current={path === at ? "page" : undefined}>
                    {name}
                  </a>
                ))}
              </nav>
              <form method="post" action="sign-out" class="sign-out">
                <input type="hidden" name="form" value={signOut} />
                <button type="submit" class="quiet">
                  Sign out
                </button>
              </form>
            </>
          )}
        </header>
        <main id="main" tabindex={-1}>
          <h1>{title}</h1>
          {children}
        </main>
      </body>
    </html>
  );
}

/** A number of a series of /metrics, with its exact value for programs. */
export function Figure({
  series,
  value,
  as = "count",
}: {
  readonly series: string;
  readonly value: number;
  readonly as?: "count" | "size" | "span";
}) {
  const text = { count: countText, size: sizeText, span: spanText }[as](value);
  return (
    <data value={String(value)} data-series={series}>
      {text}
    </data>
  );
}

/** A peer, as a link to its mailbox. */
export function Peer({ url, linked = true }: { readonly url: string; readonly linked?: boolean }) {
  const { kind, name } = peerName(url);
  const shown = <bdi>{name}</bdi>;
  return (
    <span class="peer">
      {linked ? <a href={`mailbox?${new URLSearchParams({ peer: url })}`}>{shown}</a> : shown} <small>{kind}</small>
    </span>
  );
}

/** A time, which the script of the page writes in the time zone of the browser. @param at milliseconds since 1970 */
export function Time({ at }: { readonly at: number }) {
  const iso = new Date(at).toISOString();
  return <time datetime={iso}>{`${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`}</time>;
}

/** How long ago something was. */
export function Ago({ at, now }: { readonly at: number | null | undefined; readonly now: number }) {
  if (at === null || at === undefined) return <span class="none">–</span>;
  return (
    <time datetime={new Date(at).toISOString()} data-age="">{`${spanText(Math.max(0, now - at) / 1000)} ago`}</time>
  );
}

/** A table with a caption, which scrolls by itself where the page is narrow. */
export function Table({
  caption,
  head,
  children,
}: {
  readonly caption: string;
  /** Names of the columns; those that begin with # have numbers. */
  readonly head: readonly (string | { readonly text: string; readonly href: string; readonly sorted: boolean })[];
  readonly children: Child;
}) {
  return (
    <section class="scrolls" aria-label={caption}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {head.map((column) => {
              const { text, href, sorted } =
                typeof column === "string" ? { text: column, href: "", sorted: false } : column;
              const name = text.replace(/^#/, "");
              return (
                <th
                  scope="col"
                  class={text.startsWith("#") ? "number" : ""}
                  aria-sort={sorted ? "descending" : undefined}
                >
                  {href === "" ? name : <a href={href}>{sorted ? `${name} ▾` : name}</a>}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </section>
  );
}

/** The form by which a list is searched. */
export function Search({
  action,
  contains,
  label,
  fields = {},
}: {
  readonly action: string;
  readonly contains: string;
  readonly label: string;
  readonly fields?: Readonly<Record<string, string>>;
}) {
  return (
    <search>
      <form method="get" action={action} class="search">
        <label for="q">{label}</label>
        <input
          id="q"
          type="search"
          name="q"
          value={contains}
          maxlength={SEARCH_LENGTH}
          autocomplete="off"
          spellcheck={false}
        />
        {Object.entries(fields).map(([name, value]) => (
          <input type="hidden" name={name} value={value} />
        ))}
        <button type="submit">Search</button>
      </form>
    </search>
  );
}
