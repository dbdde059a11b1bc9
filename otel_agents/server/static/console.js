// What every page does. Each module looks for its own elements and is idle where there are none.
import { charts } from "./charts.js";
import { firing } from "./firing.js";
import { folding } from "./folding.js";
import { frame } from "./frame.js";
import { keyboard } from "./keyboard.js";
import { live } from "./live.js";
import { polling } from "./polling.js";
import { filters, listening } from "./refresh.js";
import { times } from "./times.js";

frame();
keyboard();
times();
folding();
charts();
filters();
listening();
polling();
firing();
live();
