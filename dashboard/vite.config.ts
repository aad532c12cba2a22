import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  // Relative, below the <base> that the server writes: one build serves every issuer.
  base: './',
  plugins: [react()],
  build: {
    target: 'es2024',
    // Everything in files: the policy of the page allows no inline script, style or data.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 800,
  },
});
