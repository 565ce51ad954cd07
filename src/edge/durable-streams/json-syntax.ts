/**
 * Checks that bytes are one value of JSON [RFC 8259], without making the value: that of a long body would take many
 * times its bytes. Whether they are UTF-8 is checked elsewhere.
 *
 * @module
 */

const [QUOTE, BACKSLASH, COMMA, COLON, MINUS, PLUS, POINT, ZERO, SPACE] = [
  0x22, 0x5c, 0x2c, 0x3a, 0x2d, 0x2b, 0x2e, 0x30, 0x20,
];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** By the first byte. */
const LITERALS: ReadonlyMap<number, Uint8Array> = new Map(
  ["true", "false", "null"].map((text) => [text.charCodeAt(0), new TextEncoder().encode(text)]),
);

/** What may follow a backslash, but for `u`. */
const ESCAPED: ReadonlySet<number> = new Set(new TextEncoder().encode('"\\/bfnrt'));

/** Whether bytes are one value, with white space around it or without. */
export function isOneValue(octets: Uint8Array): boolean {
  return new Scanner(octets).isOneValue();
}

/** Where a scanner is that has found a mistake: beyond every end. */
const WRONG = Number.POSITIVE_INFINITY;

class Scanner {
  readonly #octets: Uint8Array;
  #at = 0;
  /** What encloses the place: a byte for each array or object, so that deep ones take no more memory than their text. */
  #enclosing = new Uint8Array(64);
  #depth = 0;

  constructor(octets: Uint8Array) {
    this.#octets = octets;
  }

  isOneValue(): boolean {
    while (this.#value()) {
      if (this.#depth === 0) {
        this.#skipSpace();
        return this.#at === this.#octets.length;
      }
    }
    return false;
  }

  /**
   * Passes a value, and everything up to the next one. Returns false for a mistake. At depth 0, the outermost value has
   * ended.
   */
  #value(): boolean {
    this.#skipSpace();
    const first = this.#octets[this.#at];
    if (first === OPEN_ARRAY || first === OPEN_OBJECT) {
      this.#at += 1;
      this.#skipSpace();
      const isArray = first === OPEN_ARRAY;
      if (this.#octets[this.#at] !== (isArray ? CLOSE_ARRAY : CLOSE_OBJECT)) {
        this.#enter(first);
        return isArray || this.#name();
      }
      this.#at += 1;
    } else this.#at = this.#endOfScalar(first);
    return this.#at !== WRONG && this.#afterValue();
  }

  /** Passes what ends after a value, and the comma before the next one. */
  #afterValue(): boolean {
    while (this.#depth > 0) {
      this.#skipSpace();
      const next = this.#octets[this.#at];
      this.#at += 1;
      const isArray = this.#enclosing[this.#depth - 1] === OPEN_ARRAY;
      if (next === COMMA) return isArray || this.#name();
      if (next !== (isArray ? CLOSE_ARRAY : CLOSE_OBJECT)) return false;
      this.#depth -= 1;
    }
    return true;
  }

  /** Passes the name of a member, and its colon. */
  #name(): boolean {
    this.#skipSpace();
    if (this.#octets[this.#at] !== QUOTE) return false;
    this.#at = this.#endOfString(this.#at + 1);
    if (this.#at === WRONG) return false;
    this.#skipSpace();
    const isColon = this.#octets[this.#at] === COLON;
    this.#at += 1;
    return isColon;
  }

  #enter(opening: number): void {
    if (this.#depth === this.#enclosing.length) {
      const larger = new Uint8Array(2 * this.#depth);
      larger.set(this.#enclosing);
      this.#enclosing = larger;
    }
    this.#enclosing[this.#depth] = opening;
    this.#depth += 1;
  }

  #skipSpace(): void {
    for (;;) {
      const octet = this.#octets[this.#at];
      if (octet !== SPACE && octet !== 0x0a && octet !== 0x0d && octet !== 0x09) return;
      this.#at += 1;
    }
  }

  #endOfScalar(first: number | undefined): number {
    if (first === QUOTE) return this.#endOfString(this.#at + 1);
    if (first === MINUS || isDigit(first)) return this.#endOfNumber(first === MINUS ? this.#at + 1 : this.#at);
    const literal = LITERALS.get(first ?? 0);
    const at = this.#at;
    return literal?.every((octet, index) => this.#octets[at + index] === octet) ? at + literal.length : WRONG;
  }

  /** @param from after the opening quote */
  #endOfString(from: number): number {
    const octets = this.#octets;
    for (let at = from; at < octets.length; at += 1) {
      const octet = octets[at] ?? 0;
      if (octet === QUOTE) return at + 1;
      if (octet < SPACE) return WRONG;
      if (octet !== BACKSLASH) continue;
      at += 1;
      if (octets[at] === 0x75) {
        for (let digit = 1; digit <= 4; digit += 1) if (!isHexDigit(octets[at + digit])) return WRONG;
        at += 4;
      } else if (!ESCAPED.has(octets[at] ?? 0)) return WRONG;
    }
    return WRONG;
  }

  /** @param from after the sign */
  #endOfNumber(from: number): number {
    let at = this.#octets[from] === ZERO ? from + 1 : this.#endOfDigits(from);
    if (this.#octets[at] === POINT) at = this.#endOfDigits(at + 1);
    if (((this.#octets[at] ?? 0) | 0x20) !== 0x65) return at;
    const sign = this.#octets[at + 1];
    return this.#endOfDigits(sign === PLUS || sign === MINUS ? at + 2 : at + 1);
  }

  /** The end of one digit or more. */
  #endOfDigits(from: number): number {
    let at = from;
    while (isDigit(this.#octets[at])) at += 1;
    return at === from ? WRONG : at;
  }
}

function isDigit(octet = 0): boolean {
  return octet >= ZERO && octet <= 0x39;
}

function isHexDigit(octet = 0): boolean {
  const letter = octet | 0x20;
  return isDigit(octet) || (letter >= 0x61 && letter <= 0x66);
}
