/**
 * Offsets: positions in a stream, as opaque texts that sort like the positions [PROTOCOL 8].
 *
 *     0001790000000000_0000000000000042     incarnation, position; 16 digits each
 *
 * A position counts bytes, or messages of a stream of JSON. The incarnation is a number of its own for each stream that
 * was ever created under a name, so an offset of a deleted stream never names a place in its successor.
 *
 * A fork has the offsets of its source up to where it begins. So a stream has a lineage: stretches of positions, each
 * with the incarnation of the stream that has written it. A position between two stretches belongs to the first.
 *
 * @module
 */

/** A part of a stream, written by one incarnation. It ends where the next one begins, or at the tail. */
export interface Stretch {
  /** Name of the stream that has stored it. */
  readonly name: string;
  readonly incarnation: number;
  /** The position at which it begins. */
  readonly from: number;
}

/** The stretches of a stream, oldest first. The first begins at 0, and the last is the stream's own. */
export type Lineage = readonly Stretch[];

/** An offset as a client writes it. `-1` is the beginning, `now` the tail. */
export type Offset = "beginning" | "now" | { readonly incarnation: number; readonly position: number };

const OFFSET = /^(\d{16})_(\d{16})$/;
const DIGITS = 16;

/** Reads an offset; undefined if it is malformed. Sixteen zeros twice are the beginning too, whatever the incarnation. */
export function parseOffset(text: string): Offset | undefined {
  if (text === "-1") return "beginning";
  if (text === "now") return "now";
  const [, incarnation, position] = OFFSET.exec(text) ?? [];
  if (incarnation === undefined || position === undefined) return undefined;
  const offset = { incarnation: Number(incarnation), position: Number(position) };
  return offset.incarnation === 0 && offset.position === 0 ? "beginning" : offset;
}

/** Writes the offset of a position. Later positions of one stream have offsets that sort later. */
export function formatOffset(lineage: Lineage, position: number): string {
  return `${digits(ownerOf(lineage, position))}_${digits(position)}`;
}

/**
 * Returns the position that an offset names in a stream; undefined if there is none: the offset is of an earlier stream
 * of that name, or of a part of the source that a fork does not have.
 *
 * @param tail the position after the last byte or message
 */
export function positionOf(lineage: Lineage, offset: Offset, tail: number): number | undefined {
  if (offset === "beginning") return 0;
  if (offset === "now") return tail;
  const { incarnation, position } = offset;
  const at = lineage.findIndex((stretch) => stretch.incarnation === incarnation);
  const stretch = lineage[at];
  if (stretch === undefined) return undefined;
  const end = lineage[at + 1]?.from ?? tail;
  return position < stretch.from || position > end ? undefined : position;
}

/** Whether two offsets that a stream has given are of the same position. Their other halves may differ in a mailbox. */
export function isSamePosition(one: string, other: string): boolean {
  return one.slice(-DIGITS) === other.slice(-DIGITS);
}

/** The lineage of a fork that begins at a position of its source. */
export function forkedLineage(source: Lineage, position: number, own: { name: string; incarnation: number }): Lineage {
  return [...source.filter(({ from }) => from < position), { ...own, from: position }];
}

/** The stretch that has stored what follows a position, and where it ends; undefined for the stream's own. */
export function inheritedAt(lineage: Lineage, position: number): (Stretch & { readonly end: number }) | undefined {
  for (const [at, stretch] of lineage.entries()) {
    const end = lineage[at + 1]?.from;
    if (end !== undefined && position < end) return { ...stretch, end };
  }
  return undefined;
}

/** Where the part begins that the stream itself has stored. */
export function ownFrom(lineage: Lineage): number {
  return lineage[lineage.length - 1]?.from ?? 0;
}

/**
 * The incarnation of a stream that is created now: the time in microseconds, the last three digits at random. It is
 * above those of its source, so that the offsets of a fork sort as its positions do.
 *
 * @param now milliseconds since 1970
 * @param random from 0 up to, not including, 1
 */
export function newIncarnation(now: number, random: number, source?: Lineage): number {
  const above = source?.reduce((most, { incarnation }) => Math.max(most, incarnation), 0) ?? 0;
  return Math.max(now * 1000 + Math.floor(random * 1000), above + 1);
}

/**
 * A lineage in the epoch that begins when a backup is restored. Its incarnations are new, above all that were made until
 * then, and in the same order; those of a fork's source are moved alike.
 *
 * @param restored milliseconds since 1970
 */
export function inEpoch<T extends { readonly incarnation: number }>(stretch: T, restored: number): T {
  return { ...stretch, incarnation: stretch.incarnation + (restored - FIRST_INCARNATION) * 1000 };
}

/** Before the first release: an incarnation that is moved on by the time since then is above the time of the restore. */
const FIRST_INCARNATION = Date.UTC(2023, 10, 14);

/** The incarnation that has written what is before a position, or the first one. */
function ownerOf(lineage: Lineage, position: number): number {
  let owner = lineage[0]?.incarnation ?? 0;
  for (const { from, incarnation } of lineage) if (from < position) owner = incarnation;
  return owner;
}

function digits(number: number): string {
  return String(number).padStart(DIGITS, "0");
}
