/** The projections that the projector keeps. Adding one takes its file and a line here. */
import type { Projection } from '../lib/projector.js';
import { leads } from './leads.js';

export const projections: readonly Projection[] = [leads as Projection];
