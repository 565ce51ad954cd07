/**
 * TCP streams between two devices, without any I/O: one sealed channel, and many streams in it. The edge can be an end
 * too; then the channel is plain, and TLS protects it.
 *
 * **Keys.** Each device has a static X25519 key. The initiator begins with a handshake of Noise, IK if it has pinned
 * the responder's key and XX otherwise; `judge` decides about keys without a pin. Both then have the same keys, which
 * live in memory only: a channel does not outlive either program.
 *
 * **Packets.** In clear are a route id, a length and, in records, a number, which says no more than counting them does.
 * Services, data, credit, ends, resets and positions are sealed.
 *
 * **Records.** The number of a record is its nonce. A record is sealed once, kept until it is acknowledged, and sent
 * again octet for octet; nothing else is ever sealed under its number. Each says up to where its sender has received.
 * An old record is dropped and counted. One after a gap is not used, and what is missing is asked for. One that was not
 * sealed by the peer ends the channel by name at both ends.
 *
 * **Paths.** A channel outlives its path: each new one begins with `resume`, which says what has arrived and asks for
 * the rest. If nothing is heard for the responder's resume time, both ends reset their streams.
 *
 * **Streams.** Either side opens streams, numbered in order: odd those of the initiator, even those of the responder.
 * Each direction ends by itself (half-close); a reset ends both. An opened stream has credit for 16 KiB each way, so
 * data may follow at once. The receiver raises the credit as its application reads. Windows grow with the round trip up
 * to 4 MiB, while all that a device has granted stays below 32 MiB. Streams with data take turns.
 *
 * ```ts
 * const channel = new StreamChannel({ role: "initiator", route, suites: [CHACHA_POLY], ... });
 * const opened = channel.open("ssh");
 * channel.attach(clock());
 * // After every call:
 * for (const event of channel.events()) handle(event);
 * if (path.hasRoom) for (const packet of channel.output(256 * 1024, clock())) path.send(packet);
 * timer.setTo(channel.deadline);                                // calls channel.advance(clock())
 * // For every message from the peer:
 * decoder.push(message, (route, body) => channels.get(route)?.receive(body, clock()));
 * ```
 *
 *   packet.ts       what the edge sees
 *   handshake.ts    Noise (noise.ts, ciphers.ts) between two devices; keys.ts: fingerprints
 *   records.ts      sealing, opening, and the log of what is not acknowledged
 *   frame.ts        what is inside of records
 *   credit.ts       windows, and the credit of a device
 *   kept-pool.ts    its memory for what is not acknowledged
 *   channel.ts      the engine; stream.ts: its streams
 *   reasons.ts      why channels end and streams are reset
 *   limits.ts       every number
 *
 * @module
 */
export * from "./channel.ts";
export { AES_GCM, CHACHA_POLY, type Cipher, type CipherSuite, TAG_OCTETS } from "./ciphers.ts";
export { CreditPool } from "./credit.ts";
export { isServiceName } from "./frame.ts";
export { EDGE_ADDRESS, type HandshakeOptions } from "./handshake.ts";
export { KeptPool } from "./kept-pool.ts";
export * from "./keys.ts";
export * from "./limits.ts";
export { KEY_OCTETS, publicKeyOf } from "./noise.ts";
export { ALL_ROUTES, encodeNotice, isHello, isNotice, PACKET_HEADER, PacketDecoder } from "./packet.ts";
export { REASONS, type Reason } from "./reasons.ts";
export { isAlone } from "./stream.ts";
