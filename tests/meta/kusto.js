// Checks KQL with Microsoft's own language service: reads {"tables": [schema, ...], "queries": [text, ...]}
// from standard input, and writes the messages of each query as a list of lists.
const folder = `${process.argv[2]}/node_modules/@kusto/language-service-next/`;
require(`${folder}bridge.min.js`);
require(`${folder}Kusto.Language.Bridge.min.js`);

const language = globalThis.Kusto.Language;
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const tables = Object.entries(asked.tables).map(([name, schema]) =>
  language.Symbols.TableSymbol.From(schema).WithName(name),
);
const database = new language.Symbols.DatabaseSymbol.$ctor1("resource", null, false).AddMembers(tables);
const globals = language.GlobalState.Default.WithDatabase(database);

const answers = asked.queries.map((query) => {
  const found = language.KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  const messages = [];
  for (let index = 0; index < found.Count; index++) messages.push(found.getItem(index).Message);
  return messages;
});
console.log(JSON.stringify(answers));
