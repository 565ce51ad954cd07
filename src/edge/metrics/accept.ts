/**
 * Which of several media types a client prefers, by its Accept header [RFC 9110 12.5.1].
 *
 * @module
 */

/**
 * @param accept the header, as it came; what cannot be read counts for nothing
 * @param offered media types in lower case, the one to take in doubt first
 * @returns the index of the preferred one
 */
export function preferred(accept: string, offered: readonly string[]): number {
  const ranges = accept.split(",").map((part) => {
    const [range = "", ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? "1";
    return { range, weight: /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(weight) ? Number(weight) : 0 };
  });
  let [best, most] = [0, 0];
  for (const [at, type] of offered.entries()) {
    // The most specific range that covers a type counts.
    const covers = [type, `${type.slice(0, type.indexOf("/"))}/*`, "*/*"];
    const specific = covers.find((cover) => ranges.some(({ range }) => range === cover));
    const weight = Math.max(0, ...ranges.filter(({ range }) => range === specific).map((range) => range.weight));
    if (weight > most) [best, most] = [at, weight];
  }
  return best;
}
