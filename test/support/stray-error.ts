/** Loaded into a server by `NODE_OPTIONS=--import=…`: a signal makes it throw where nobody catches it. */
process.on('SIGUSR2', () => {
  setTimeout(() => {
    throw new Error('stray');
  });
});
