import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';

const document = await readFile('docs/threat-model.md', 'utf8');
const flows = document.split(/^## (?=\d)/m).slice(1);
const rowsOf = (flow: string) => flow.split('\n').filter((line) => /^\| [STRIDE] \|/.test(line));

describe('the threat model', () => {
  it('has all of STRIDE for each of the five flows', () => {
    expect(flows).toHaveLength(5);
    for (const flow of flows) expect([...new Set(rowsOf(flow).map((row) => row[2]))].join('')).toBe('STRIDE');
  });

  it.each(flows.flatMap(rowsOf).map((row) => [String(row.split('|')[2]).trim(), row]))(
    'names tests that there are: %s',
    async (_, row) => {
      const references = [...row.matchAll(/`(test\/[\w/.-]+)`: “([^”]+)”/g)];
      expect(references.length).toBeGreaterThan(0);
      for (const [, file = '', title = ''] of references)
        expect(titlesOf(await readFile(file, 'utf8'))).toContainEqual(expect.stringContaining(title));
    },
  );
});

/** What stands in quotation marks behind `it`, `describe` and their `each`. */
const titlesOf = (source: string): string[] =>
  [...source.matchAll(/(?:\b(?:it|test|describe)|\))\(\s*(['"`])(.*?)(?<!\\)\1/g)].map(([, , title]) =>
    String(title),
  );
