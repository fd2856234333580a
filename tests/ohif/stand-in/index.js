// The rest of the viewer: whatever is asked for is there, can be called and extended, and does nothing.
const sopClassDictionary = {
  BasicTextSR: '1.2.840.10008.5.1.4.1.1.88.11',
  EnhancedSR: '1.2.840.10008.5.1.4.1.1.88.22',
  ComprehensiveSR: '1.2.840.10008.5.1.4.1.1.88.33',
  Comprehensive3DSR: '1.2.840.10008.5.1.4.1.1.88.34',
};

class Nothing {}

const standIn = new Proxy(Nothing, {
  get: (target, name) => {
    if (name === 'sopClassDictionary') return sopClassDictionary;
    return name in target || typeof name === 'symbol' ? target[name] : standIn;
  },
  apply: () => standIn,
});

module.exports = standIn;
