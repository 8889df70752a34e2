const form = document.querySelector('.controls');
const dialog = document.querySelector('dialog');
const cards = [...document.querySelectorAll('.card')];
const measures = new Map(cards.map(card => [card, JSON.parse(card.dataset.measures)]));
const filters = [...form.querySelectorAll('fieldset:first-of-type select:not([name=sort])')];
const shares = document.body.dataset.spread.split(' ').map(Number);
const palettes = {};
for (const scale of ['attention', 'samples', 'std', 'passed', 'bits'])
  palettes[scale] = document.body.dataset[scale].match(/../g).map(pair => parseInt(pair, 16) / 255);

/* Which images: filters, search and order. */
function sorted(shown, key) {
  const down = key.startsWith('-');
  const name = down ? key.slice(1) : key;
  const place = new Map(cards.map((card, i) => [card, i]));
  const of = card => measures.get(card)[name] ?? (down ? -Infinity : Infinity);
  return shown.sort((a, b) =>
    (key && (down ? of(b) - of(a) : of(a) - of(b))) || place.get(a) - place.get(b));
}
function passes(card) {
  const text = form.elements.name.value.toLowerCase();
  return card.querySelector('h4').textContent.toLowerCase().includes(text) &&
    filters.every(({name, value}) =>
      !value || (card.dataset[name] ?? '').split(' ').includes(value));
}
let order = '';
function choose() {
  for (const card of cards) card.hidden = !passes(card);
  const wanted = form.elements.sort?.value ?? '';
  for (const group of document.querySelectorAll('.group')) {
    const own = [...group.querySelectorAll('.card')];
    group.hidden = own.length > 0 && own.every(card => card.hidden);
    if (wanted === order) continue;
    const list = group.querySelector('.cards');
    list.replaceChildren();  /* all at once: one by one takes seconds */
    list.append(...sorted(own, wanted));
  }
  order = wanted;
  const shown = cards.filter(card => !card.hidden).length;
  form.querySelector('output').textContent = `${shown} of ${cards.length} images`;
  document.querySelector('.empty').hidden = shown > 0 || cards.length === 0;
}
/* What sticks below the form, and what is scrolled to, begin under it. */
function measureBar() {
  const height = getComputedStyle(form).position === 'sticky' ? form.offsetHeight : 0;
  document.documentElement.style.setProperty('--bar', `${height}px`);
}
/* Then to the first card, if it is above what is seen; a link takes the focus along. */
function go(linked = false) {
  choose();
  measureBar();  /* an observer knows it a frame later */
  const first = document.querySelector('.card:not([hidden])');
  const results = first?.closest('section') ?? document.querySelector('.empty');
  const [top, bottom] = [results.getBoundingClientRect().top, form.getBoundingClientRect().bottom];
  const there = () => results.scrollIntoView();
  if (linked || top < bottom) {
    there();
    /* Again when cards that were never drawn have their true size: the browser holds on
       to one of them meanwhile. */
    requestAnimationFrame(() => requestAnimationFrame(there));
  }
  if (linked) results.focus({preventScroll: true});
}

/* Colours: an SVG filter turns the greys of a map, 256 of them, into colours. A canvas
   could not: a browser lets no script read the pixels of a file beside the page. */
const svg = document.querySelector('svg');
const tables = new Map();

function share(value, spread, rounding) {
  let k = spread.length - 1;
  while (k > 0 && spread[k] > value + rounding) k--;
  if (k === spread.length - 1) return 1;
  const part = (value - spread[k]) / (spread[k + 1] - spread[k]);
  return shares[k] + Math.max(0, part) * (shares[k + 1] - shares[k]);
}
function colour(image) {
  const how = form.elements.colours.value;
  const {spread, scale} = image.dataset;
  const values = spread.split(' ').map(Number);
  const least = values[0], range = values.at(-1) - least;
  const [low, high] = JSON.parse(image.closest('.scaled').dataset.ends)[scale];
  const place = {
    same: value => high > low ? (value - low) / (high - low) : 0,
    each: value => range > 0 ? (value - least) / range : 0,
    rank: value => range > 0 ? share(value, values, range / 510) : 0,
  }[how];
  const channels = [[], [], []];
  for (let i = 0; i < 256; i++) {
    const at = Math.round(255 * Math.min(1, Math.max(0, place(least + range * i / 255))));
    channels.forEach((channel, c) => channel.push(palettes[scale][3 * at + c].toFixed(3)));
  }
  if (!tables.has(image)) {
    const id = `map${tables.size}`;
    svg.insertAdjacentHTML('beforeend', `<filter id="${id}" color-interpolation-filters="sRGB"
      x="0" y="0" width="1" height="1"><feComponentTransfer><feFuncR type="table"/><feFuncG
      type="table"/><feFuncB type="table"/></feComponentTransfer></filter>`);
    tables.set(image, [...svg.lastElementChild.firstElementChild.children]);
    image.style.filter = `url(#${id})`;
  }
  tables.get(image).forEach((f, c) => f.setAttribute('tableValues', channels[c].join(' ')));
}
const meaning = name => document.querySelector(`[data-of="${CSS.escape(name)}"]`)?.textContent;
const near = new Set();
/* Samples are many and seldom looked at: they wait in templates. */
function fill(part) {
  const template = form.elements.samples?.checked && part.querySelector('template');
  if (template) template.replaceWith(template.content);
  part.querySelectorAll('img[data-spread]').forEach(colour);
}
const watcher = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) { near.delete(target); continue; }
    near.add(target);
    fill(target);
    for (const one of target.querySelectorAll('[data-measure]'))
      one.title = meaning(one.dataset.measure) ?? '';
  }
}, {rootMargin: '600px'});
for (const part of document.querySelectorAll('.card, .shared')) watcher.observe(part);

function explain(legend, how) {
  const {low, high} = legend.dataset;
  const ends = {same: [low, high], each: ['least', 'greatest'], rank: ['0 %', '100 %']}[how];
  legend.querySelector('.low').textContent = ends[0];
  legend.querySelector('.high').textContent = ends[1];
  const colours = palettes[legend.dataset.scale];
  const stops = [...Array(17).keys()].map(i => 3 * Math.round(255 * i / 16)).map(at =>
    `rgb(${colours.slice(at, at + 3).map(part => Math.round(255 * part)).join(' ')})`);
  legend.querySelector('.scale').style.setProperty('--colours', stops.join(', '));
}
const MEANS = {
  same: 'A colour is the same value in every picture.',
  each: 'Each picture from its own least to its own greatest value: colours compare within a picture only.',
  rank: 'A colour says which share of its own picture is lower: every picture has all colours alike.',
};
const BLENDED = ' Below 100 % the photograph under it makes it lighter or darker.';
function show() {
  const {elements} = form;
  const how = elements.colours?.value;
  for (const {name, checked} of form.querySelectorAll('input[type=checkbox]'))
    document.body.classList.toggle(name, checked);
  if (!how) return;
  document.documentElement.style.setProperty('--opacity', elements.opacity.value / 100);
  document.documentElement.style.setProperty('--tile', `${elements.size.value}px`);
  near.forEach(fill);
  document.querySelectorAll('.legend').forEach(legend => explain(legend, how));
  const said = MEANS[how] + (elements.opacity.value < 100 ? BLENDED : '');
  for (const text of document.querySelectorAll('.how')) text.textContent = said;
}

/* Enlarging: a copy of the tile in a dialog, which Escape closes and arrows leaf through. */
let enlarged = null;
function enlarge(tile) {
  enlarged = tile;
  const figure = tile.closest('figure');
  const card = tile.closest('.card, th, td');
  const copy = tile.cloneNode(true);
  const stage = dialog.querySelector('.stage');
  const large = document.createElement('div');
  large.className = copy.className;
  large.append(...copy.childNodes);
  stage.replaceChildren(large);
  stage.setAttribute('style', card.getAttribute('style'));
  stage.classList.toggle('coarse', Boolean(tile.closest('.coarse')));
  const caption = figure.querySelector('figcaption').cloneNode(true);
  caption.querySelectorAll('br').forEach(one => one.replaceWith(', '));
  const name = card.querySelector('h4')?.textContent;
  dialog.querySelector('#enlarged').textContent = (name ? `${name}: ` : '') + caption.textContent;
  const scale = tile.querySelector('img').dataset.scale;
  const legend = scale && tile.closest('.scaled').querySelector(`.legend[data-scale=${scale}]`);
  dialog.querySelector('.bar-of').replaceChildren(...legend ? [legend.cloneNode(true)] : []);
  if (!dialog.open) dialog.showModal();
}
const seen = part => [...part.querySelectorAll('.tile')].filter(tile => tile.offsetParent);
function step(by) {
  const tiles = seen(enlarged.closest('.card, tr'));
  enlarge(tiles[(tiles.indexOf(enlarged) + by + tiles.length) % tiles.length]);
}
/* The same map of the image before or after. */
function leap(by) {
  const shown = [...document.querySelectorAll('.card:not([hidden])')];
  const at = shown.indexOf(enlarged.closest('.card'));
  const card = at < 0 ? null : shown[at + by];
  if (!card) return;
  fill(card);
  const name = tile => tile.closest('figure').querySelector('figcaption').firstChild.data.trim();
  const same = seen(card).find(tile => name(tile) === name(enlarged));
  if (same) enlarge(same);
}
dialog.addEventListener('keydown', event => {
  const [move, by] = {ArrowLeft: [step, -1], ArrowRight: [step, 1],
    ArrowUp: [leap, -1], ArrowDown: [leap, 1]}[event.key] ?? [];
  if (!move) return;
  event.preventDefault();  /* or the page behind scrolls */
  move(by);
});
dialog.addEventListener('click', ({target}) => {
  const {step: by} = target.dataset;
  if (by) step(Number(by));
  else if (target === dialog) dialog.close();
});
document.addEventListener('click', ({target}) => {
  const {field, value, sort} = target.closest('[data-field]')?.dataset ?? {};
  if (form.elements[field]) {
    form.elements[field].value = value;
    if (sort) form.elements.sort.value = sort;
    go(true);
  }
  if (!target.closest('main')) return;
  const tile = target.closest('.tile');
  if (tile) enlarge(tile);
  if (target.closest('.all')) form.reset();
});

/* What the numbers mean, once, where they are unfolded. */
document.addEventListener('toggle', ({target}) => {
  if (!target.matches?.('.more[open]') || target.querySelector('dl')) return;
  const list = document.createElement('dl');
  for (const one of target.parentElement.querySelectorAll('[data-measure]')) {
    const text = meaning(one.dataset.measure);
    if (!text) continue;
    const [head, said] = [document.createElement('dt'), document.createElement('dd')];
    head.textContent = one.textContent;
    said.textContent = text;
    list.append(head, said);
  }
  target.querySelector('.measures').remove();
  target.append(list);
}, true);

document.documentElement.className = '';
form.hidden = false;
for (const legends of document.querySelectorAll('.legends')) legends.hidden = false;
new ResizeObserver(measureBar).observe(form);
form.addEventListener('input', ({target}) =>
  target.closest('fieldset').matches(':first-of-type') ? go() : show());
/* Colours and sizes stay as they are. */
form.addEventListener('reset', event => {
  event.preventDefault();
  for (const field of form.querySelectorAll('fieldset:first-of-type :is(select, input)')) field.value = '';
  go();
});
form.addEventListener('submit', event => event.preventDefault());
show();
choose();
