/**
 * The --quota option of `edge` and `relay`, in the syntax of the QUOTA setting.
 *
 * @module
 */
import { parseQuota, QuotaError } from "../edge/policy/quota-setting.ts";
import type { Quota } from "../store-and-forward/share.ts";
import { usage } from "./parse-arguments.ts";

/**
 * Parses the value of --quota.
 *
 * @throws CommandError Usage
 */
export function quotaOf(command: string, text: string): { readonly text: string; readonly quota: Quota } {
  try {
    return { text, quota: parseQuota(text) };
  } catch (error) {
    if (error instanceof QuotaError) throw usage(command, `--quota ${error.problem}: ${error.cure}`);
    throw error;
  }
}
