/** Built in: the only client of signed-in users that is not in the clients table. */
export const dashboardClientId = 'dashboard';
