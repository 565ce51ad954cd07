/** Fetches a PAC file, and prints it. */
import { fetchPac } from "../../../../src/device/transports/proxy/pac.ts";

// Long enough for a busy machine.
console.log(await fetchPac(process.argv[2] ?? "", 20_000));
