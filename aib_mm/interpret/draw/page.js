const form = document.querySelector('.controls');
const cards = [...document.querySelectorAll('.card')];
const measures = new Map(cards.map(card => [card, JSON.parse(card.dataset.measures)]));
const filters = [...form.querySelectorAll('select:not([name=sort])')];

function sorted(shown, key) {
  if (!key) return shown;
  const down = key.startsWith('-');
  const name = down ? key.slice(1) : key;
  const of = card => measures.get(card)[name] ?? (down ? -Infinity : Infinity);
  return shown.sort((a, b) => down ? of(b) - of(a) : of(a) - of(b));
}
function passes({dataset}) {
  return filters.every(({name, value}) =>
    !value || (dataset[name] ?? '').split(' ').includes(value));
}
function apply() {
  for (const card of cards) card.hidden = !passes(card);
  for (const group of document.querySelectorAll('.group')) {
    const own = cards.filter(card => group.contains(card));
    group.hidden = own.length > 0 && own.every(card => card.hidden);
    group.querySelector('.cards').append(...sorted(own, form.elements.sort?.value));
  }
  for (const {name, checked} of form.querySelectorAll('input'))
    document.body.classList.toggle(name, checked);
  const shown = cards.filter(card => !card.hidden).length;
  form.querySelector('output').textContent = `${shown} of ${cards.length} images`;
}
form.hidden = false;
form.addEventListener('input', apply);
form.addEventListener('submit', event => event.preventDefault());
apply();
