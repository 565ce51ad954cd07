/** Files that the Worker serves as they are, which bundlers import as text. */
declare module "uplot/dist/uPlot.iife.min.js" {
  const text: string;
  export default text;
}
declare module "*.css" {
  const text: string;
  export default text;
}
declare module "*/draw-plots.js" {
  const text: string;
  export default text;
}
