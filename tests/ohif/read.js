// What OHIF makes of a Structured Report, as JSON: node read.js REPORT.dcm
const fs = require('node:fs');
const Module = require('node:module');
const { text } = require('node:stream/consumers');
const { PassThrough } = require('node:stream');
const dcmjs = require('dcmjs');
const { createElement } = require('react');
const { renderToPipeableStream } = require('react-dom/server');
const standIn = require('./stand-in');

// The extension is OHIF's own; the rest of the viewer, which would need a browser, is not here.
const SCREEN = /^@ohif\/(core|extension-cornerstone$|i18n|ui-next)/;
const load = Module._load;
Module._load = (name, ...rest) => (SCREEN.test(name) ? standIn : load(name, ...rest));
const { default: extension } = require('@ohif/extension-cornerstone-dicom-sr');

const measurementService = {
  EVENTS: {},
  subscribe: () => {},
  getSourceMappings: () => [{ annotationType: 'Length' }],
};
const displaySetService = { EVENTS: {}, activeDisplaySets: [], subscribe: () => {} };
const customizationService = { getCustomization: () => undefined };
const managers = {
  servicesManager: { services: { measurementService, displaySetService, customizationService } },
  extensionManager: { getDataSources: () => [{}] },
  commandsManager: {},
};

function readInstance(path) {
  const bytes = new Uint8Array(fs.readFileSync(path));
  const { dict } = dcmjs.data.DicomMessage.readFile(bytes.buffer);
  return dcmjs.data.DicomMetaDictionary.naturalizeDataset(dict);
}

async function render(displaySet) {
  const [{ component }] = extension.getViewportModule(managers);
  const page = new PassThrough();
  const stream = renderToPipeableStream(createElement(component, { displaySets: [displaySet] }), {
    onAllReady: () => stream.pipe(page),
    onError: (error) => void page.destroy(error),
  });
  return text(page);
}

async function main(path) {
  console.warn = console.log = () => {};
  const instance = readInstance(path);
  const handlers = extension.getSopClassHandlerModule(managers);
  const handler = handlers.find(({ sopClassUids }) => sopClassUids.includes(instance.SOPClassUID));
  const [displaySet] = handler.getDisplaySetsFromSeries([instance]);
  await displaySet.load();
  const { isImagingMeasurementReport, isRehydratable, measurements, label } = displaySet;
  const html = await render(displaySet);
  process.stdout.write(
    JSON.stringify({ isImagingMeasurementReport, isRehydratable, measurements, label, html }),
  );
}

main(process.argv[2]);
