// Reads an AsyncAPI document with the official parser. Usage: node asyncapi_check.mjs FILE
// The parser is looked for in NODE_PATH. Exit code: 0 valid, 1 not valid, 2 wrong use.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const ERROR = 0; // severities are error 0, warning 1, information 2, hint 3
const WARNING = 1;

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node asyncapi_check.mjs FILE");
  process.exit(2);
}

const require = createRequire(import.meta.url); // an import statement would not look at NODE_PATH
const { Parser } = require("@asyncapi/parser");
const { version } = require("@asyncapi/parser/package.json");

const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
for (const { severity, code, message, path } of diagnostics) {
  console.log(`${["error", "warning", "information", "hint"][severity]} ${code} at ${path.join(".")}: ${message}`);
}
const bad = diagnostics.some(({ severity }) => severity === ERROR || severity === WARNING);
if (document === undefined || bad) {
  console.log(`${file}: not accepted by @asyncapi/parser ${version}`);
  process.exit(1);
}
console.log(`${file}: AsyncAPI ${document.version()}, accepted by @asyncapi/parser ${version}`);
