export interface Bars {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly string[];
  readonly groups: readonly { readonly label: string; readonly values: readonly number[] }[];
}

const width = 720;
const height = 320;
const margin = { top: 64, right: 16, bottom: 36, left: 16 };
// Apart in hue and in lightness, on a white page and on a black one.
const colours = ['#8c95a3', '#d08a1d', '#2f6fde'];

/** A grouped bar chart as SVG, every bar with its figure, so that no axis is needed. */
export function drawBars({ title, unit, series, groups }: Bars): string {
  const most = Math.max(...groups.flatMap(({ values }) => values));
  const groupWidth = (width - margin.left - margin.right) / groups.length;
  const barWidth = (groupWidth * 0.84) / series.length;
  const plot = height - margin.top - margin.bottom;
  const bars = groups.flatMap(({ label, values }, group) => {
    const left = margin.left + group * groupWidth + groupWidth * 0.08;
    return [
      ...values.map((value, index) => {
        const x = left + index * barWidth;
        const length = (value / most) * plot;
        const y = margin.top + plot - length;
        return `<rect x="${n(x)}" y="${n(y)}" width="${n(barWidth - 3)}" height="${n(length)}" fill="${colours[index]}"/>
<text x="${n(x + (barWidth - 3) / 2)}" y="${n(y - 4)}" text-anchor="middle" font-size="11">${figure(value)}</text>`;
      }),
      `<text x="${n(left + groupWidth * 0.42)}" y="${height - 14}" text-anchor="middle">${label}</text>`,
    ];
  });
  const legend = series.map(
    (name, index) =>
      `<rect x="${margin.left + index * 170}" y="34" width="12" height="12" fill="${colours[index]}"/>
<text x="${margin.left + 18 + index * 170}" y="44">${name}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" font-family="system-ui, sans-serif" font-size="13">
<title>${title}</title>
<style>text { fill: #1f2430 } @media (prefers-color-scheme: dark) { text { fill: #e8eaee } }</style>
<text x="${margin.left}" y="20" font-weight="600">${title}${unit ? `, ${unit}` : ''}</text>
${legend.join('\n')}
${bars.join('\n')}
</svg>
`;
}

const n = (value: number) => String(Number(value.toFixed(1)));

function figure(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(value >= 10 ? 0 : 1);
}
