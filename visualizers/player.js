function mountInGradio(element, props, trigger, watch) {
  const root = element.querySelector('.ts');
  const show = () => { const v = props.value ? JSON.parse(props.value) : null; root.textContent = v && v.left ? v.left.sentence : ''; };
  show(); watch('value', show);
}
